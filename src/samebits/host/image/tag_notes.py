"""Names that have moved: a tag names another image than when it was last trained in, or a base another one."""

import json
import re
from contextlib import suppress

from samebits.core.digest import Digest
from samebits.core.environment import DOCKER
from samebits.core.errors import RecordError, StorageError
from samebits.core.jsonio import Fields, readable_json, write_atomically
from samebits.host.cache_dir import cache_folder, read_own
from samebits.host.docker import Engine, Image
from samebits.host.image.build import BASE_LABEL, known_metadata

BASE_NAME_LABEL = "org.opencontainers.image.base.name"
_BY_DIGEST = re.compile(r"@sha256:|^sha256:")


def moved_tag(image: Image, runtime: str = DOCKER) -> str | None:
    """One line where a tag names another image than before, which was not built here; notes the image."""
    if _BY_DIGEST.search(image.reference):
        return None
    # Each engine has tags of its own.
    name = image.reference if runtime == DOCKER else f"{runtime}:{image.reference}"
    path = cache_folder("tags") / f"{Digest.of_bytes(name.encode()).hex[:32]}.json"
    try:
        before = Fields(json.loads(read_own(path))).get("id", str)
    except (OSError, ValueError, RecordError, StorageError):
        before = image.id
    # A cache that is full costs the note.
    with suppress(StorageError):
        write_atomically(path, readable_json({"tag": image.reference, "id": image.id}), mode=0o600)
    if before == image.id or "builder" in known_metadata(image):
        return None
    return (
        f"{image.reference} names another image than before, which was not built here: {image.id}, not {before}; to"
        f" train in the earlier one, use --image {before}"
    )


def moved_base(engine: Engine, image: Image) -> str | None:
    """One line where the base that an image was built on is not what its name stands for now."""
    name, digest = image.labels.get(BASE_NAME_LABEL), image.labels.get(BASE_LABEL)
    found = engine.find_image(name) if name else None
    if digest is None or found is None or found.id == digest:
        return None
    # The digest of a registry is no id where ids are those of configurations.
    if not engine.uses_containerd_store and engine.find_image(digest) is None:
        return None
    return f"{image.reference} was built on another base than {name} is now: {digest}, not {found.id}"
