"""Rebuild an image and compare it with the original, layer by layer, and file by file in layers that differ."""

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, InputError, RecordError
from samebits.core.jsonio import differing_names
from samebits.core.recipe import ImageIdentity
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.console import elapsed_progress, log_progress
from samebits.host.docker import Engine, Image
from samebits.host.image.build import (
    BuildPlan,
    build_from_context,
    config_digest,
    context_folder,
    has_packages,
    image_labels,
)
from samebits.host.image.build_context import check_kept, check_recorded
from samebits.host.image.received import check_dockerfile, copy_context
from samebits.host.trust import advice, is_named


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The configuration digests of two images, and the files that differ if both images are available."""

    wanted: Digest
    found: Digest
    differences: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether both digests are equal."""
        return self.wanted == self.found

    def to_dict(self) -> dict[str, object]:
        """The comparison for JSON."""
        digests = {"wanted": str(self.wanted), "found": str(self.found)}
        return {"identical": self.identical, **digests, "differences": list(self.differences)}


def build_twice(engine: Engine, plan: BuildPlan, *, offline: bool = False) -> Comparison:
    """Build a plan twice without cache, in two folders, and compare; neither image is kept."""
    # Tags of their own: the check must not replace the image that is in use.
    plans = [replace(plan, tag=f"{plan.tag}-check-{number}") for number in (1, 2)]
    try:
        images = []
        for one in plans:
            with context_folder(one) as context:
                images.append(build_from_context(engine, one, context, offline=offline, cached=False))
        return compare(engine, *images)
    finally:
        for one in plans:
            engine.remove_image(one.tag)


def rebuild(engine: Engine, run: RunDir, *, offline: bool = False, trusted: tuple[str, ...] = ()) -> Comparison:
    """Rebuild a run's image from the run's folder, without cache, as `samebits:rebuilt-…`, and compare.

    Raises InputError if the run has no image, ImageError if the build context is not the recorded one.
    """
    record = run.read()
    wanted = record.recipe.image.config
    if wanted is None:
        raise InputError(
            f"the record of {record.id} names no image digest (a virtual environment, or a plain `docker run`);"
            " there is nothing to compare a rebuilt image with"
        )
    built = _rebuild_image(engine, run, record, offline=offline, trusted=trusted)
    found = config_digest(engine, built)
    try:
        return _compared(engine, record, built, wanted, found)
    finally:
        # Its name would say that it is the recorded one.
        if found != wanted:
            engine.remove_image(built.reference)


def _compared(engine: Engine, record: Record, built: Image, wanted: Digest, found: Digest) -> Comparison:
    # With the original in the engine, the comparison can name the files that differ.
    started_in = record.environment.image
    original = None if started_in is None else engine.find_image(started_in.id)
    if found == wanted or original is None:
        return Comparison(wanted=wanted, found=found)
    # The recorded digest counts, not that of the image which has the recorded id here.
    return replace(compare(engine, original, built), wanted=wanted)


def find_recorded(engine: Engine, recorded: ImageIdentity) -> Image | None:
    """The image that a recipe names, if the engine has it under any name.

    It is identified by its digest. A plain `docker run` records none: then base, lock and source identify it, unless
    several images have them.
    """
    # The labels are cheap to compare. The digest decides, and is read for few images.
    labels = image_labels(base=recorded.base, lock=recorded.lock, source=recorded.source, packages=recorded.packages)
    found = [image for image in engine.images_with(labels) if has_packages(image, recorded.packages)]
    if recorded.config is None:
        originals = [image for image in found if _is_as_built(engine, image)]
        # Which of several it was cannot be told; one that is rebuilt from the run's folder is right.
        return originals[0] if len(originals) == 1 else None
    return next((image for image in found if _is_recorded(engine, image, recorded)), None)


def _is_as_built(engine: Engine, image: Image) -> bool:
    """Whether an image ends with the step that our Dockerfile ends with: `FROM samebits:cpu` inherits all labels."""
    steps = (step for step in engine.history(image) if not step.startswith(("SHELL ", "USER ")))
    return "/opt/samebits/recipe" in next(steps, "")


def provide_recorded(
    engine: Engine, run: RunDir, record: Record, *, offline: bool = False, trusted: tuple[str, ...] = ()
) -> Image:
    """The image that a run was trained in, rebuilt if it is gone; raises ImageError if the rebuilt one differs."""
    image = find_recorded(engine, record.recipe.image)
    if image is None:
        log_progress(f"the image of {record.id} is gone; rebuilding it from the run's folder")
        image = _rebuild_image(engine, run, record, offline=offline, trusted=trusted)
        # Training in it anyway would blame the script for a difference of the image.
        if not _is_recorded(engine, image, record.recipe.image):
            found = config_digest(engine, image)
            engine.remove_image(image.reference)
            raise ImageError(
                f"the rebuilt image is {found}, not the recorded {record.recipe.image.config};"
                " `samebits rebuild` lists the differences"
            )
    return image


def _is_recorded(engine: Engine, image: Image, recorded: ImageIdentity) -> bool:
    """Whether an image with the recorded labels is the recorded one."""
    return recorded.config is None or config_digest(engine, image) == recorded.config


def _rebuilt_tag(recorded: ImageIdentity) -> str:
    # Named by its content, so that rebuilds of several runs do not replace each other.
    parts = (recorded.base, recorded.lock, recorded.packages, recorded.source)
    name = recorded.config or Digest.of_json([str(part) for part in parts])
    return f"samebits:rebuilt-{name.short}"


def _rebuild_image(engine: Engine, run: RunDir, record: Record, *, offline: bool, trusted: tuple[str, ...]) -> Image:
    """Build from a run's build context alone; raises ImageError if that is not the recorded one."""
    recorded = record.recipe.image
    with tempfile.TemporaryDirectory(prefix="samebits-rebuild-") as folder:
        # Everything is checked in a copy, which nothing changes meanwhile.
        context = Path(folder) / "context"
        context.mkdir()
        copy_context(run.image, context, recorded)
        try:
            plan = BuildPlan.read(context / "image.json", _rebuilt_tag(recorded))
        except RecordError as error:
            raise ImageError(
                f"the build context in {run.image} is incomplete: {error}; restore the run's folder"
            ) from error
        check_context(context, plan, recorded)
        check_dockerfile(context, trusted=is_named(run, record, trusted), advice=advice(record))
        return build_from_context(engine, plan, context, offline=offline, cached=False)


def check_context(context: Path, plan: BuildPlan, recorded: ImageIdentity) -> None:
    """Raise ImageError unless a build context's files and its `image.json` match the recorded digests."""
    check_kept(context, recorded)
    manifest = context / "image.json"
    for what, found, wanted in (
        ("lock", plan.lock, recorded.lock),
        ("lock of packages", plan.packages, recorded.packages),
        ("source", plan.source, recorded.source),
        ("base", plan.base_digest, recorded.base),
    ):
        check_recorded(what, manifest, found, wanted)


def compare(engine: Engine, one: Image, other: Image) -> Comparison:
    """Compare two images; their files are read only if their digests differ."""
    wanted, found = config_digest(engine, one), config_digest(engine, other)
    if wanted == found:
        return Comparison(wanted=wanted, found=found)
    what = f"comparing {one.reference} and {other.reference} file by file"
    with elapsed_progress(what), tempfile.TemporaryDirectory(prefix="samebits-compare-") as folder:
        layers = []
        for number, image in enumerate((one, other)):
            # Each archive is removed as soon as it is unpacked: an image has gigabytes.
            path = Path(folder) / f"{number}.tar"
            engine.export([image], path)
            layers.append(_Layers(path, Path(folder) / str(number)))
        differences = tuple(_layer_differences(*layers))
    return Comparison(wanted=wanted, found=found, differences=differences or ("configuration: settings or labels",))


class _Layers:
    """The layers of an exported image."""

    def __init__(self, archive: Path, folder: Path) -> None:
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
        archive.unlink()
        manifest = json.loads((folder / "manifest.json").read_bytes())[0]
        self.paths = [folder / name for name in manifest["Layers"]]

    def files(self, index: int) -> dict[str, tuple[object, ...]]:
        """Everything that a layer holds about each file, except the order of the files."""
        with tarfile.open(self.paths[index]) as layer:
            return {member.name: _file_facts(layer, member) for member in layer}


def _file_facts(layer: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[object, ...]:
    content: Any = layer.extractfile(member) if member.isreg() else None
    digest = "" if content is None else hashlib.file_digest(content, "sha256").hexdigest()
    return digest, member.mtime, member.mode, member.uid, member.gid, member.type, member.linkname


# The names of what `_file_facts` returns.
_FACT_NAMES = ("content", "time", "mode", "owner", "group", "type", "link")


def _layer_differences(one: _Layers, other: _Layers) -> Iterator[str]:
    if len(one.paths) != len(other.paths):
        yield f"number of layers: {len(one.paths)}, {len(other.paths)}"
    for index, (left, right) in enumerate(zip(one.paths, other.paths, strict=False)):
        # Equal layers, the usual case, are not read file by file.
        if Digest.of_file(left) == Digest.of_file(right):
            continue
        before, after = one.files(index), other.files(index)
        if before == after:
            yield f"layer {index}: the order of its files, or other fields of their headers"
        for name in differing_names(before, after):
            yield f"layer {index}: /{name} ({_changed_facts(before.get(name), after.get(name))})"


def _changed_facts(before: tuple[object, ...] | None, after: tuple[object, ...] | None) -> str:
    if before is None or after is None:
        return "added" if before is None else "removed"
    return ", ".join(name for name, one, other in zip(_FACT_NAMES, before, after, strict=True) if one != other)
