"""Find the image that Apptainer is to train in: unpacked already, in an engine, in a registry, or in an archive."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import EngineError, ImageError, NoEngineError
from samebits.core.jsonio import storage_error
from samebits.core.recipe import ImageIdentity
from samebits.host.docker import Engine, Image
from samebits.host.image.build_context import ImageKind
from samebits.host.image.identify import current_kind, find_or_build, identity_of
from samebits.host.launch.apptainer_images import ApptainerImages, named_config

_ADVICE = (
    "name one by digest in a registry (--image NAME@sha256:...), or an archive that Docker wrote elsewhere"
    " (docker save {tag} -o {file}; --image {file})"
)


def find_unpacked(
    images: ApptainerImages, kind: ImageKind, reference: str | None, wanted: ImageIdentity | None = None
) -> tuple[Image, ImageIdentity]:
    """The image to train in: the `wanted` one, else the named one, which is unpacked on first use.

    Raises ImageError if it is not to be had, or is of another lock or version.
    """
    image = _wanted(images, wanted) or _named(images, kind, reference, wanted)
    return image, identity_of(image, current_kind(image, kind), Digest.parse(image.id))


def _wanted(images: ApptainerImages, wanted: ImageIdentity | None) -> Image | None:
    return None if wanted is None or wanted.config is None else images.find(wanted.config)


def _named(images: ApptainerImages, kind: ImageKind, reference: str | None, wanted: ImageIdentity | None) -> Image:
    if reference is not None and reference.startswith("sha256:") and (found := images.find(Digest.parse(reference))):
        return found
    if reference is not None and "@sha256:" in reference:
        return replace(images.pull(reference), reference=reference)
    if reference is not None and (reference.endswith(".tar") or "/" in reference) and Path(reference).is_file():
        return _from_archive(images, Path(reference))
    return _from_engine(images, kind, reference, wanted)


def _from_archive(images: ApptainerImages, archive: Path) -> Image:
    # What the archive says it holds is enough to look for that.
    config = named_config(archive)
    return images.find(config) or images.load(_chunks(archive), config)


def _chunks(archive: Path) -> Iterator[bytes]:
    try:
        with archive.open("rb") as file:
            while block := file.read(1 << 20):
                yield block
    except OSError as error:
        raise storage_error(error, archive) from error


def _from_engine(
    images: ApptainerImages, kind: ImageKind, reference: str | None, wanted: ImageIdentity | None
) -> Image:
    """The image of an engine of this machine, which may build it; without an engine the only one that fits."""
    try:
        engine = Engine()
    except NoEngineError as error:
        fitting = [image for image in images.images() if _fits(image, kind)] if reference is None and not wanted else []
        if len(fitting) == 1:
            return fitting[0]
        why = "several images fit" if fitting else f"Apptainer has no image {reference or kind.tag}"
        raise ImageError(f"{why}, and builds none; {_ADVICE.format(tag=kind.tag, file='samebits.tar')}") from error
    image, identity = find_or_build(engine, kind, reference, wanted)
    if identity.config is None:
        raise EngineError(f"the engine does not say which configuration {image.reference} has")
    unpacked = images.find(identity.config) or images.load(engine.exported([image]), identity.config)
    return replace(unpacked, reference=image.reference)


def _fits(image: Image, kind: ImageKind) -> bool:
    try:
        current_kind(image, kind)
    except ImageError:
        return False
    return image.labels.get("samebits.device") == kind.device
