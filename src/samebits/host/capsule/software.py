"""The software of an unpacked capsule: its image into the engine, its base and wheels to where a build looks for them.

Nothing is loaded but what the run's recipe names by digest, and nothing under a name that a user's own work has.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, NoEngineError
from samebits.core.jsonio import storage_error
from samebits.core.record import Record
from samebits.host.cache_dir import cache_folder, exclusive
from samebits.host.capsule import contents
from samebits.host.capsule.gather import image_name
from samebits.host.capsule.image_layout import Blobs, NamedImage, descriptors, layout, resolve, stream, unpacked
from samebits.host.capsule.unpack import Unpacked
from samebits.host.console import elapsed_progress
from samebits.host.docker import Engine
from samebits.host.image.base_image import base_name
from samebits.host.image.rebuild import find_recorded


def provide_software(capsule: Unpacked) -> bool:
    """Make the run's software available; returns whether no network is needed for it.

    Raises ImageError where the capsule's image is not the recorded one.
    """
    record = capsule.run.read()
    if record.recipe.image.config is None:
        return False
    try:
        engine = Engine()
    except NoEngineError:
        return False  # the preflight says so
    if find_recorded(engine, record.recipe.image) is not None:
        return True
    names = descriptors(capsule.folder) if (capsule.folder / contents.IMAGE).is_dir() else []
    blobs = unpacked(capsule.folder)
    if contents.IMAGE not in capsule.contents.without:
        _load(engine, _find(blobs, names, image_name(record), str(record.recipe.image.config)), blobs)
        return True
    return _provide_parts(engine, capsule, (blobs, names), record)


def _provide_parts(
    engine: Engine, capsule: Unpacked, image: tuple[Blobs, list[Mapping[str, Any]]], record: Record
) -> bool:
    """What a build needs; returns whether it is all there is."""
    base, packed = record.recipe.image.base, set(contents.PARTS) - set(capsule.contents.without)
    if contents.BASE in packed and base is not None:
        _load(engine, _find(*image, base_name(base), str(base)), image[0])
    if contents.WHEELS in packed:
        adopt_wheels({capsule.folder / member.path: member.digest for member in capsule.contents.below("wheels")})
    return {contents.BASE, contents.WHEELS} <= packed


def _find(blobs: Blobs, names: list[Mapping[str, Any]], name: str, wanted: str) -> NamedImage:
    try:
        return resolve(blobs, names, name, wanted)
    except ImageError as error:
        reason = f"the capsule's image is not {wanted}, which its recipe names: {error}; nothing was loaded"
        raise ImageError(reason) from error


def _load(engine: Engine, image: NamedImage, blobs: Blobs) -> None:
    if engine.find_image(image.name) is not None:
        engine.remove_image(image.name)  # only the name is ours to give
    with elapsed_progress(f"loading {image.name}"):
        engine.load(stream(layout([image], blobs)))


def adopt_wheels(files: Mapping[Path, Digest | None]) -> None:
    """Copy wheels, whose digests were checked, into the cache; a build checks each again. Raises StorageError."""
    root = cache_folder("wheels")
    with exclusive(root, "store"):
        for path, digest in files.items():
            if digest is not None and _is_wheel(path.name):
                _adopt(path, root / digest.hex / path.name)


def _adopt(path: Path, place: Path) -> None:
    if place.exists():
        return
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, draft)
        draft.chmod(0o444)
        draft.replace(place)
    except OSError as error:
        raise storage_error(error, place) from error
    finally:
        draft.unlink(missing_ok=True)


def _is_wheel(name: str) -> bool:
    try:
        return bool(parse_wheel_filename(name))
    except InvalidWheelFilename:
        return False
