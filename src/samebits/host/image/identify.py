"""Find the image to train in, build it if it is missing, and identify it by its digests."""

from collections.abc import Iterator
from dataclasses import replace

from samebits.core.digest import Digest
from samebits.core.environment import PODMAN
from samebits.core.errors import ImageError
from samebits.core.recipe import ImageIdentity
from samebits.host.console import log
from samebits.host.docker import Engine, Image
from samebits.host.image.build import (
    BASE_LABEL,
    PACKAGES_LABEL,
    PYTHON_LABEL,
    build,
    config_digest,
    plan_build,
    require_image,
)
from samebits.host.image.build_context import (
    CPU,
    GPU,
    ImageKind,
    source_digest,
)
from samebits.host.image.rebuild import find_recorded
from samebits.host.image.tag_notes import moved_base, moved_tag


def find_or_build(
    engine: Engine, kind: ImageKind, reference: str | None, wanted: ImageIdentity | None = None
) -> tuple[Image, ImageIdentity]:
    """The image to train in, with its digests: the `wanted` one under any name, if the engine has it.

    Else the named one, which is pulled where it is named by digest. Where none is named, it is built if it is missing
    or outdated.
    """
    found = None if wanted is None else find_recorded(engine, wanted)
    if found is not None:
        return identify(engine, found.reference, kind)
    if reference is None:
        _build_if_missing(engine, kind)
    elif "@sha256:" in reference and engine.find_image(reference) is None:
        engine.pull(reference)
    return identify(engine, reference or kind.tag, kind)


def _build_if_missing(engine: Engine, kind: ImageKind) -> None:
    image = engine.find_image(kind.tag)
    other = None if image is None else _outdated(image, kind)
    if image is not None and not other:
        return
    if engine.runtime == PODMAN:
        what = "no image" if other is None else f"an image of another {other[0]} as"
        raise ImageError(
            f"Podman has {what} {kind.tag}, and does not build it; build it with Docker and move it with"
            f" `docker save {kind.tag} | podman load`, or name one that Podman can pull: --image NAME@sha256:..."
        )
    if other:
        log(f"{kind.tag} was built from another {other[0]}; it is rebuilt")
    build(engine, plan_build(engine, kind))


def _outdated(image: Image, kind: ImageKind) -> tuple[str, str | None, str | None] | None:
    """What an image was built from another of: its name, the one in the image, and the wanted one."""
    for label, ours, what in _wanted_labels(kind):
        found, wanted = image.labels.get(label), None if ours is None else str(ours)
        if found != wanted:
            return what, found, wanted
    return None


def _wanted_labels(kind: ImageKind) -> Iterator[tuple[str, Digest | str | None, str]]:
    """What an image's labels must be, and what they name; base and builder may differ."""
    yield "samebits.lock", kind.lock_digest, "lock"
    yield PACKAGES_LABEL, kind.packages_digest, "lock of packages"
    yield "samebits.source", source_digest(kind), "version of samebits"
    yield PYTHON_LABEL, kind.python_text, "Python"


def identify(engine: Engine, reference: str, kind: ImageKind) -> tuple[Image, ImageIdentity]:
    """The image to train in, with its digests; raises ImageError if it is missing or outdated."""
    image = require_image(engine, reference)
    kind = current_kind(image, kind)
    for note in (moved_tag(image, engine.runtime), moved_base(engine, image)):
        if note is not None:
            log(note)
    return image, identity_of(image, kind, config_digest(engine, image))


def current_kind(image: Image, kind: ImageKind) -> ImageKind:
    """The kind of an image; raises ImageError where it is of another lock or version than this installation."""
    # The image says its device; locks and source must be those of this installation and project.
    device = GPU if image.labels.get("samebits.device") == GPU.device else CPU
    kind = replace(device, project=kind.project, python=kind.python)
    if other := _outdated(image, kind):
        what, found, ours = other
        raise ImageError(
            f"the image {image.reference} was built from another {what} ({found or 'it names none'}; here it is"
            f" {ours or 'none'}); rebuild it with `samebits build`"
        )
    return kind


def identity_of(image: Image, kind: ImageKind, config: Digest) -> ImageIdentity:
    """The digests of a current image."""
    base = image.labels.get(BASE_LABEL)
    return ImageIdentity(
        lock=kind.lock_digest,
        packages=kind.packages_digest,
        source=source_digest(kind),
        config=config,
        base=Digest.parse(base) if base else None,
    )
