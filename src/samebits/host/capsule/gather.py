"""What of a run goes into a capsule, and where each file lies now."""

import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from samebits.core.errors import ImageError, InputError, NoEngineError, RecordError, ToolError
from samebits.core.file_tree import TreeEntry, read_manifest
from samebits.core.folder_manifest import scan_folder
from samebits.core.inputs_lock import read_lock
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.source_digest import LOCK_PATH, PACKAGES_PATH
from samebits.host.capsule import contents
from samebits.host.capsule.archive import Source
from samebits.host.capsule.blob_store import BlobStore
from samebits.host.capsule.contents import Member
from samebits.host.capsule.image_layout import Blobs, NamedImage, exported, layout, resolve
from samebits.host.console import elapsed_progress
from samebits.host.docker import Engine, Image
from samebits.host.image.base_image import base_name
from samebits.host.image.build import BuildPlan
from samebits.host.image.build_context import context_python, parse_python
from samebits.host.image.rebuild import provide_recorded
from samebits.host.image.wheelhouse import Target, prepare_wheelhouse
from samebits.host.inputs.store import InputStore


def image_name(record: Record) -> str:
    """The name of a run's image after it was loaded from a capsule."""
    config = record.recipe.image.config
    return f"samebits:capsule-{config.short if config is not None else record.recipe.digest.short}"


def run_files(run: RunDir, *, checkpoints: bool) -> tuple[list[Source], list[str]]:
    """All files and empty folders of a run, and the paths of what is neither: links and the like."""
    files: list[Source] = []
    folders: list[str] = []
    left_out: list[str] = []
    for entry, path in scan_folder(run.path):
        relative = _relative(Path(path), run.path)
        if not checkpoints and f"{relative}/".startswith("checkpoints/"):
            continue
        if entry.size is not None:
            member = Member(path=f"{contents.RUN}/{relative}", size=entry.size, executable=entry.executable)
            files.append(Source(member=member, path=Path(path), within=run.path))
        else:
            (folders if entry.path.endswith("/") else left_out).append(relative)
    # A folder in which something lies needs no entry. One that held only what is left out is an empty one.
    above = {os.path.dirname(path) for path in folders}
    above |= {os.path.dirname(source.member.path.removeprefix(f"{contents.RUN}/")) for source in files}
    empty = (Source(member=Member(path=f"{contents.RUN}/{name}/")) for name in folders if name not in above)
    return [*files, *empty], sorted(left_out)


def _relative(path: Path, root: Path) -> str:
    try:
        return os.fsencode(path.relative_to(root)).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"the run holds a name that is not UTF-8: {path}; a capsule cannot hold it") from error


def data_files(run: RunDir, record: Record, folder: Path | None) -> Iterator[Source]:
    """The data of a run, from where it was or from `folder`."""
    if record.recipe.data is None:
        return
    place = record.origin.data_folder if folder is None else os.fspath(folder)
    if place is None or not os.path.isdir(place):
        where = "nothing says where it is" if place is None else f"it is not at {place}"
        raise InputError(f"the data is not here: {where}; name it with --data DIR, or leave it out (--without data)")
    for entry in _recorded_data(run, record):
        member = Member(path=f"{contents.DATA}/{entry.path}", size=entry.size, digest=entry.digest)
        yield Source(member=member, path=Path(place) / entry.path)


def _recorded_data(run: RunDir, record: Record) -> tuple[TreeEntry, ...]:
    tree = read_manifest(run.data_manifest)
    if tree.digest != record.recipe.data:
        raise RecordError(f"{run.data_manifest} is not the recorded one; restore the run's folder")
    return tree.entries


def input_files(run: RunDir, record: Record) -> Iterator[Source]:
    """The files that a run takes from the network, from the store."""
    if record.recipe.inputs is None:
        return
    store = InputStore()
    for file in read_lock(run.inputs).files:
        if not store.holds(file):
            raise InputError(
                f"the input {file.path} is not here; get it with `samebits fetch`, or use `--without inputs`"
            )
        path = store.path(file.digest)
        member = Member(path=f"{contents.INPUTS}/{file.path}", size=path.stat().st_size, digest=file.digest)
        yield Source(member=member, path=path)


def wheel_files(run: RunDir, record: Record) -> Iterator[Source]:
    """The wheels of the run's locks: an image's from the cache; a virtual environment's are downloaded if missing."""
    image = record.recipe.image
    locks = [LOCK_PATH, *([] if image.packages is None else [PACKAGES_PATH])]
    # pip has installed a virtual environment's wheels, and keeps none of them.
    target = Target(python=context_python(run.image)) if image.python is None else _installed_target(image.python)
    offline = image.python is None
    try:
        folders = [prepare_wheelhouse(run.image / lock, target, offline=offline) for lock in locks]
    except (ImageError, ToolError) as error:
        raise InputError(f"{error}, or leave the wheels out (--without wheels)") from error
    files = {path.name: path for folder in folders for path in sorted(folder.iterdir())}
    for name, path in files.items():
        yield Source(member=Member(path=f"{contents.WHEELS}/{name}", size=path.stat().st_size), path=path)


def _installed_target(python: str) -> Target:
    """What pip chooses wheels for on this machine, so that they are those that it has installed."""
    target = Target(python=parse_python(".".join(python.split(".")[:2])))
    glibc = platform.libc_ver()[1].removeprefix("2.")
    return replace(target, glibc=int(glibc)) if glibc.isdecimal() else target


def image_files(
    run: RunDir, record: Record, parts: frozenset[str], folder: Path, store: BlobStore | None = None
) -> list[Source]:
    """The OCI layout with the run's image and its base, as far as they are `parts`; exports lie in `folder`.

    What the store holds already is not exported again.
    """
    if record.recipe.image.config is None:
        return []
    wanted = [part for part in (contents.IMAGE, contents.BASE) if part in parts]
    found = {part: one for part in wanted if (one := _stored(store, part, record))}
    if missing := [part for part in wanted if part not in found]:
        found |= _exported(missing, run, record, folder / "export.tar", store)
    blobs = {name: source for part in reversed(wanted) for name, source in found[part][1].items()}
    return layout([found[part][0] for part in wanted], blobs)


def _stored(store: BlobStore | None, part: str, record: Record) -> tuple[NamedImage, Blobs] | None:
    config, base = record.recipe.image.config, record.recipe.image.base
    if store is None:
        return None
    if part == contents.IMAGE:
        return store.image(image_name(record), str(config))
    return None if base is None else store.image(base_name(base), str(base))


def _exported(
    parts: list[str], run: RunDir, record: Record, archive: Path, store: BlobStore | None
) -> dict[str, tuple[NamedImage, Blobs]]:
    """The images as the engine exports them: all at once, as they share layers."""
    try:
        engine = Engine()
    except NoEngineError as error:
        reason = str(error).partition(";")[0]
        raise InputError(f"{reason}; start one, or leave images out with --without image --without base") from error
    images = {part: (_image if part == contents.IMAGE else _base)(engine, run, record) for part in parts}
    exports = [image for image, _, _ in images.values()]
    with elapsed_progress(f"exporting {exports[0].reference}"):
        engine.export(exports, archive)
    blobs, descriptors = exported(archive)
    found = {part: resolve(blobs, descriptors, name, wanted) for part, (_, name, wanted) in images.items()}
    if store is not None:
        for part, image in found.items():
            store.remember(image, images[part][2])
    return {part: (image, blobs) for part, image in found.items()}


def _image(engine: Engine, run: RunDir, record: Record) -> tuple[Image, str, str]:
    image = provide_recorded(engine, run, record)
    return image, image_name(record), str(record.recipe.image.config)


def _base(engine: Engine, run: RunDir, record: Record) -> tuple[Image, str, str]:
    base, wanted = BuildPlan.read(run.image / "image.json", "unused").base, record.recipe.image.base
    if wanted is None:
        raise InputError("the record names no base image; leave it out (--without base)")
    name = base_name(wanted)
    for reference in (base, name):
        image = engine.find_image(reference)
        if image is not None and ("@" in base or image.id == str(wanted)):
            return image, name, str(wanted)
    raise InputError(f"the engine has no base image {base} ({wanted}); pull it, or leave it out (--without base)")
