"""Build an image again, and say whether it is the same: layer by layer, file by file where it is not."""

import hashlib
import json
import shutil
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
from samebits.host.console import elapsed_progress, log
from samebits.host.docker import Engine, Image
from samebits.host.image.build import BuildPlan, build_recipe, config_digest, labels_of, laid_out
from samebits.host.image.build_context import check_kept, check_recorded, fix_modes


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two images by their configuration digests, and every file in which they differ, as far as both are at hand."""

    wanted: Digest
    found: Digest
    differences: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether they are the same image."""
        return self.wanted == self.found

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        digests = {"wanted": str(self.wanted), "found": str(self.found)}
        return {"identical": self.identical, **digests, "differences": list(self.differences)}


def build_twice(engine: Engine, plan: BuildPlan, *, offline: bool = False) -> Comparison:
    """Build a plan's recipe twice from nothing, in two folders, and compare; neither image is kept."""
    plans = [replace(plan, tag=f"{plan.tag}-check-{number}") for number in (1, 2)]
    try:
        images = []
        for one in plans:
            with laid_out(one) as recipe:
                images.append(build_recipe(engine, one, recipe, offline=offline, cached=False))
        return compare(engine, *images)
    finally:
        for one in plans:
            engine.remove_image(one.tag)


def rebuild(engine: Engine, run: RunDir, *, offline: bool = False) -> Comparison:
    """Make a run's image from the recipe in its folder, without cache, as `samebits:rebuilt-…`, and compare.

    Raises InputError where the run has no image, ImageError where the recipe is not the recorded one.
    """
    record = run.read()
    wanted = record.recipe.image.config
    if wanted is None:
        raise InputError(
            f"the record of {record.id} names no image digest (a virtual environment, or a plain `docker run`);"
            " there is nothing to compare a rebuilt image with"
        )
    built = _built_again(engine, run, record, offline=offline)
    found = config_digest(engine, built)
    started_in = record.environment.image
    original = None if started_in is None else engine.find_image(started_in.id)
    if found == wanted or original is None:
        return Comparison(wanted=wanted, found=found)
    return replace(compare(engine, original, built), wanted=wanted)


def find_recorded(engine: Engine, record: Record) -> Image | None:
    """The image that a run was trained in, if the engine has it, whatever its name.

    It is known by its digest; under a plain `docker run`, which records none, by base, lock and source.
    """
    recorded = record.recipe.image
    labels = labels_of(base=recorded.base, lock=recorded.lock, source=recorded.source)
    found = engine.images_with(labels)
    return next((image for image in found if _is_recorded(engine, image, recorded)), None)


def provide_recorded(engine: Engine, run: RunDir, record: Record, *, offline: bool = False) -> Image:
    """The image that a run was trained in, rebuilt where it is gone; raises ImageError where that gives another one."""
    image = find_recorded(engine, record)
    if image is None:
        log(f"the image of {record.id} is not here: rebuilding it from what the run keeps")
        image = _built_again(engine, run, record, offline=offline)
        if not _is_recorded(engine, image, record.recipe.image):
            raise ImageError(
                f"the rebuilt image is {config_digest(engine, image)}, and {record.recipe.image.config} is wanted;"
                " `samebits rebuild` tells more"
            )
    return image


def _is_recorded(engine: Engine, image: Image, recorded: ImageIdentity) -> bool:
    """Whether an image with the recorded labels is the recorded one."""
    return recorded.config is None or config_digest(engine, image) == recorded.config


def _tag_again(recorded: ImageIdentity) -> str:
    name = recorded.config or Digest.of_json([str(recorded.base), str(recorded.lock), str(recorded.source)])
    return f"samebits:rebuilt-{name.short}"


def _built_again(engine: Engine, run: RunDir, record: Record, *, offline: bool) -> Image:
    """From the recipe in a run's folder alone; raises ImageError where that is not the recorded one."""
    recorded = record.recipe.image
    try:
        plan = BuildPlan.read(run.image / "image.json", _tag_again(recorded))
        check_recipe(run.image, plan, recorded)
    except (OSError, ValueError, RecordError) as error:
        raise ImageError(
            f"the image's recipe in {run.image} is not whole: {error}; restore the run's folder"
        ) from error
    with tempfile.TemporaryDirectory(prefix="samebits-rebuild-") as folder:
        recipe = Path(folder) / "recipe"
        shutil.copytree(run.image, recipe)
        fix_modes(recipe)
        return build_recipe(engine, plan, recipe, offline=offline, cached=False)


def check_recipe(recipe: Path, plan: BuildPlan, recorded: ImageIdentity) -> None:
    """Raise ImageError where a recipe's files, or what its `image.json` says of them, are not what was recorded."""
    check_kept(recipe, recorded)
    manifest = recipe / "image.json"
    for what, found, wanted in (
        ("lock", plan.lock, recorded.lock),
        ("source", plan.source, recorded.source),
        ("base", plan.base_digest, recorded.base),
    ):
        check_recorded(what, manifest, found, wanted)


def compare(engine: Engine, one: Image, other: Image) -> Comparison:
    """Compare two images that are at the engine; their files are read only where their digests differ."""
    wanted, found = config_digest(engine, one), config_digest(engine, other)
    if wanted == found:
        return Comparison(wanted=wanted, found=found)
    what = f"comparing {one.reference} and {other.reference} file by file"
    with elapsed_progress(what), tempfile.TemporaryDirectory(prefix="samebits-compare-") as folder:
        layers = []
        for number, image in enumerate((one, other)):
            path = Path(folder) / f"{number}.tar"
            engine.export(image, path)
            layers.append(_Layers(path, Path(folder) / str(number)))
        differences = tuple(_differences(*layers))
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
        """What a layer says of each of its files: everything but the order."""
        with tarfile.open(self.paths[index]) as layer:
            return {member.name: _facts(layer, member) for member in layer}


def _facts(layer: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[object, ...]:
    content: Any = layer.extractfile(member) if member.isreg() else None
    digest = "" if content is None else hashlib.file_digest(content, "sha256").hexdigest()
    return digest, member.mtime, member.mode, member.uid, member.gid, member.type, member.linkname


_FACTS = ("content", "time", "mode", "owner", "group", "type", "link")


def _differences(one: _Layers, other: _Layers) -> Iterator[str]:
    if len(one.paths) != len(other.paths):
        yield f"number of layers: {len(one.paths)}, {len(other.paths)}"
    for index, (left, right) in enumerate(zip(one.paths, other.paths, strict=False)):
        if Digest.of_file(left) == Digest.of_file(right):
            continue
        before, after = one.files(index), other.files(index)
        if before == after:
            yield f"layer {index}: the order of its files, or what their headers say beside"
        for name in differing_names(before, after):
            yield f"layer {index}: /{name} ({_which(before.get(name), after.get(name))})"


def _which(before: tuple[object, ...] | None, after: tuple[object, ...] | None) -> str:
    if before is None or after is None:
        return "added" if before is None else "removed"
    return ", ".join(name for name, one, other in zip(_FACTS, before, after, strict=True) if one != other)
