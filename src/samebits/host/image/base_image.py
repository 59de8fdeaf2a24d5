"""The base image: which one, and an archive of it against the day when its registry has lost it."""

import json
import os
import re
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, RecordError
from samebits.core.jsonio import Fields, readable_json, write_atomically
from samebits.host.cache_dir import cache_folder
from samebits.host.console import log
from samebits.host.docker import Engine
from samebits.host.image.build_context import CPU, context_file


def default_base() -> str:
    """`$SAMEBITS_BASE`, else the base that the Dockerfiles pin."""
    match = re.search(r"^ARG BASE=(\S+)$", context_file(CPU.dockerfile).read_text(), re.MULTILINE)
    if match is None:
        raise ImageError("the Dockerfile names no base; restore its line 'ARG BASE=…'")
    return os.environ.get("SAMEBITS_BASE") or match[1]


def archive_base(engine: Engine, base: str) -> Path:
    """Keep a base as an archive in the cache, with its digests beside it; one named by digest is pulled where needed.

    Raises ImageError where there is none to keep.
    """
    image = engine.find_image(base)
    if image is None and "@" in base:
        image = engine.pull(base)
    if image is None:
        raise ImageError(f"the base image {base} is not here; make it with `make base-image`, or name it by its digest")
    path = _archive(base)
    engine.export(image, path)
    facts = {"base": base, "id": image.id, "archive": str(Digest.of_file(path))}
    write_atomically(path.with_suffix(".json"), readable_json(facts))
    return path


def provide_base(engine: Engine, base: str, digest: Digest, *, offline: bool = False) -> str:
    """The name by which a build finds its base: as it is, or taken from its archive, each checked by digest.

    A base that is named by digest and has no archive is left to the builder, which pulls it. Raises ImageError where
    what is here is not the base that is wanted.
    """
    by_digest = "@" in base
    if not by_digest:
        found = engine.find_image(base)
        if found is not None:
            return _checked(base, found.id, digest)
    if not _archive(base).exists():
        if by_digest and not (offline and engine.find_image(base) is None):
            return base
        raise ImageError(f"the base image {base} is not here, nor an archive of it; see `samebits archive-base`")
    if by_digest:  # its id is the digest only where the engine's store is containerd's
        return _from_archive(engine, base, f"samebits-archived-base:{digest.hex[:16]}")
    return _from_archive(engine, base, base, digest)


def _from_archive(engine: Engine, base: str, name: str, wanted: Digest | None = None) -> str:
    path = _archive(base)
    try:
        facts = Fields(json.loads(path.with_suffix(".json").read_bytes()))
        whole = Digest.of_file(path) == Digest.parse(facts.get("archive", str))
        kept = Digest.parse(facts.get("id", str))
    except (OSError, ValueError, RecordError):
        whole = False
    if not whole:
        raise ImageError(f"the archive {path} of the base {base} is damaged; remove it, or make it anew")
    _checked(base, str(kept), wanted or kept)
    log(f"taking the base {base} from its archive")
    image = engine.load(path)
    _checked(base, image, kept)
    engine.tag(image, name)
    return name


def _checked(base: str, found: str, wanted: Digest) -> str:
    if found != str(wanted):
        raise ImageError(f"the base {base} is {found}, and {wanted} is wanted; restore that one")
    return base


def _archive(base: str) -> Path:
    return cache_folder("bases") / f"{Digest.of_bytes(base.encode()).hex[:16]}.tar"
