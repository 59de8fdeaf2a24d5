"""What the container engine holds of ours: images by their names, and the caches of builders. Asked through its CLI."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from samebits.core.errors import ToolError
from samebits.host.cache_dir import cache_folder
from samebits.host.cleanup.item import Item
from samebits.host.cleanup.run_needs import RunNeeds, needed_by
from samebits.host.console import log
from samebits.host.image.build_context import CPU, GPU
from samebits.host.image.buildkit import BUILDKIT, builder_name
from samebits.host.subprocesses import run_tool

_LABEL = "samebits.source"
_TIMEOUT = 120  # seconds; an engine sums the sizes of all its layers
_SIZE = re.compile(r"([\d.]+)\s*([kKMGT]?)i?B")
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_RECLAIMABLE = re.compile(r"^Reclaimable:\s*(\S+)", re.MULTILINE)


def engine_items(needs: RunNeeds, unused_for: float) -> Iterator[Item]:
    """Images that samebits built, and caches of builders; nothing, with a message, where no engine answers."""
    try:
        yield from _images(needs)
    except ToolError as error:
        log(f"images and build caches are left out: {error}")
        return
    for name in (None, builder_name(BUILDKIT)):
        with suppress(ToolError):  # there is no such builder
            yield from _build_cache(name, unused_for)


def _images(needs: RunNeeds) -> Iterator[Item]:
    listed = _docker("image", "ls", "--quiet", "--no-trunc", "--filter", f"label={_LABEL}").split()
    if not listed:
        return
    sizes = _unique_sizes()
    for image in _objects(_docker("image", "inspect", *sorted(set(listed))), "Id"):
        names = image.get("RepoTags") or [image["Id"]]
        for name in names:
            yield _image_item(image, str(name), sizes, needs, alone=len(names) == 1)


def _image_item(image: dict[str, Any], name: str, sizes: dict[str, int], needs: RunNeeds, *, alone: bool) -> Item:
    identifier = str(image["Id"])
    in_use = name in (CPU.tag, GPU.tag)
    return Item(
        kind="image" if alone else "name of an image",
        name=name,
        # Removing one of several names frees nothing.
        size=sizes.get(identifier, int(image.get("Size") or 0)) if alone else 0,
        used=_built(identifier),
        needed=needed_by(needs.images.get(identifier)) or ("`samebits train` uses it" if in_use else ""),
        again="built again by `samebits build`, or `samebits rebuild RUN`",
        remove=partial(_docker, "image", "rm", name),  # type: ignore[arg-type]
    )


def _built(identifier: str) -> float | None:
    """When samebits last built or used it; the engine knows the fixed time of its files only."""
    try:
        return (cache_folder("images") / f"{identifier.removeprefix('sha256:')}.json").stat().st_mtime
    except OSError:
        return None


def _unique_sizes() -> dict[str, int]:
    """What each image takes that no other one shares, by its id."""
    text = _docker("system", "df", "--verbose", "--format", "{{json .Images}}")
    return {str(image["ID"]): _bytes(image.get("UniqueSize", "")) for image in _objects(text, "ID")}


def _objects(text: str, key: str) -> list[dict[str, Any]]:
    """A list of objects with a key, as Docker's CLI prints it; raises ToolError for what another CLI says."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"the docker command did not answer as Docker's does: {error}") from error
    if not isinstance(found, list) or not all(isinstance(item, dict) and key in item for item in found):
        raise ToolError(f"the docker command did not answer as Docker's does: no list of objects with {key}")
    return found


def _build_cache(name: str | None, unused_for: float) -> Iterator[Item]:
    options = () if name is None else ("--builder", name)
    found = _RECLAIMABLE.search(_docker("buildx", "du", *options))
    size = _bytes(found[1]) if found else 0
    if not size:
        return
    until = ("--filter", f"until={int(unused_for // 3600)}h") if unused_for > 0 else ()
    yield Item(
        kind="build cache",
        name=name or "the engine's, up to this size",
        size=size,
        # buildx selects by the time of use itself.
        used=0.0,
        needed="" if name else "other projects may use it; name it with --build-cache",
        again="builds take longer once",
        remove=partial(_docker, "buildx", "prune", "--force", "--all", *until, *options),  # type: ignore[arg-type]
    )


def _docker(*arguments: str) -> str:
    return run_tool(["docker", *arguments], what="asking the container engine", limit=_TIMEOUT)


def _bytes(text: object) -> int:
    """`2.123GB` as a number; 0 for anything else."""
    found = _SIZE.fullmatch(str(text))
    return int(float(found[1]) * 1000 ** _POWERS[found[2]]) if found else 0
