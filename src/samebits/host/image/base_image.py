"""The base image: which one is used, and an archive of it in case its registry loses it."""

import json
import os
import re
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, RecordError, StorageError
from samebits.core.jsonio import Fields, readable_json, write_atomically
from samebits.host.cache_dir import cache_folder, read_own
from samebits.host.console import log_progress
from samebits.host.docker import Engine
from samebits.host.image.build_context import CPU, IMAGE_PYTHON, context_file

_OTHER_BASES = {
    (3, 11): "python:3.11.16-slim-trixie@sha256:be1575ed968de893bd54f4c56315ff7c4736ce522c1bca08fd521731aafc0d76",
    (3, 12): "python:3.12.14-slim-trixie@sha256:f77ac9e44ae96ef2c90b8053ea08c31f8be030f824196b0ae4db6d462c84e51f",
}

_DEBIANS = {(3, 11): "bookworm"}
"""The releases of Debian whose own Python is one that `python` in `samebits.toml` can choose."""


def default_base(python: tuple[int, int] = IMAGE_PYTHON) -> str:
    """`$SAMEBITS_BASE`, else the pinned base; for Python 3.12 `$SAMEBITS_BASE_3_12`, else the one pinned for it."""
    if python != IMAGE_PYTHON:
        return os.environ.get(f"SAMEBITS_BASE_{python[0]}_{python[1]}") or _OTHER_BASES[python]
    # The Dockerfile is the only place where the usual base is written.
    match = re.search(r"^ARG BASE=(\S+)$", context_file(CPU.dockerfile).read_text(), re.MULTILINE)
    if match is None:
        raise ImageError("the Dockerfile names no base; restore its line 'ARG BASE=…'")
    return os.environ.get("SAMEBITS_BASE") or match[1]


def base_advice(python: tuple[int, int] = IMAGE_PYTHON) -> str:
    """What to do about a base for a Python that no registry serves and the engine lacks."""
    name = f"SAMEBITS_BASE_{python[0]}_{python[1]}"
    if python == IMAGE_PYTHON:
        return "make one with `make base-image` and name it with --base"
    if python in _DEBIANS:
        return f"make one with `tools/base_image.sh --release {_DEBIANS[python]}` and name it in {name}"
    return (
        f"no Debian has Python {python[0]}.{python[1]}: name an image of your own in {name}, or train with"
        " --runtime venv"
    )


def archive_base(engine: Engine, base: str) -> Path:
    """Archive a base in the cache, with its digests in a JSON file beside it; returns the archive's path.

    A base that is named by digest is pulled if it is missing. Raises ImageError if the base cannot be found.
    """
    image = engine.find_image(base)
    if image is None and "@" in base:
        image = engine.pull(base)
    if image is None:
        raise ImageError(
            f"the engine has no base image {base}; make it with `make base-image`, or name it by its digest"
        )
    path = _archive_path(base)
    engine.export([image], path)
    # Written last: an archive without this file was interrupted, and counts as damaged.
    facts = {"base": base, "id": image.id, "archive": str(Digest.of_file(path))}
    write_atomically(path.with_suffix(".json"), readable_json(facts))
    return path


def provide_base(engine: Engine, base: str, digest: Digest, *, offline: bool = False) -> str:
    """The name under which a build finds its base; the base is loaded from its archive if the engine lacks it.

    A base that is named by digest and has no archive keeps its name: the builder pulls it. Raises ImageError if the
    base that is found has another digest.
    """
    # A base named by digest is identified by its name. One named by tag must be checked.
    by_digest = "@" in base
    # A tag can move. It is accepted only if its image has the wanted id.
    if not by_digest:
        found = engine.find_image(base)
        if found is not None:
            return _require_id(base, found.id, digest)
    if not _archive_path(base).exists():
        loaded = engine.find_image(base_name(digest))
        if loaded is not None and loaded.id == str(digest):
            return loaded.reference
        if by_digest and not (offline and engine.find_image(base) is None):
            return base
        raise ImageError(f"neither the base image {base} nor an archive of it is here; see `samebits archive-base`")
    # A registry digest equals the image id in the containerd store only, so the id is not compared here.
    if by_digest:
        return _from_archive(engine, base, base_name(digest))
    return _from_archive(engine, base, base, digest)


def base_name(digest: Digest) -> str:
    """The name of a base that was loaded from an archive or a capsule: it cannot stand for another content."""
    return f"samebits-archived-base:{digest.hex[:16]}"


def _from_archive(engine: Engine, base: str, name: str, wanted: Digest | None = None) -> str:
    path = _archive_path(base)
    try:
        facts = Fields(json.loads(read_own(path.with_suffix(".json"))))
        intact = Digest.of_file(path) == Digest.parse(facts.get("archive", str))
        archived = Digest.parse(facts.get("id", str))
    except (OSError, ValueError, RecordError, StorageError):
        intact = False
    if not intact:
        raise ImageError(f"the archive {path} of the base {base} is damaged; remove it, or archive the base again")
    # Checked before the load, which takes seconds and changes the engine.
    _require_id(base, str(archived), wanted or archived)
    log_progress(f"loading the base {base} from its archive")
    image = engine.load(path)
    # The archive is intact, but the engine decides what id its image has.
    _require_id(base, image, archived)
    engine.tag(image, name)
    return name


def _require_id(base: str, found: str, wanted: Digest) -> str:
    if found != str(wanted):
        raise ImageError(f"the base {base} is {found}, not {wanted}; restore that one")
    return base


def _archive_path(base: str) -> Path:
    return cache_folder("bases") / f"{Digest.of_bytes(base.encode()).hex[:16]}.tar"
