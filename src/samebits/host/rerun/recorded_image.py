"""The image of a recorded run, in the first engine of this machine that has it; Docker alone can build it again."""

from contextlib import suppress
from dataclasses import dataclass

from samebits.core.environment import PODMAN
from samebits.core.errors import EngineError, NoEngineError
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host import podman_service
from samebits.host.docker import Engine
from samebits.host.image.rebuild import find_recorded, provide_recorded
from samebits.host.launch.apptainer_runtime import recorded_in_apptainer
from samebits.host.launch.runtime import Runtime, in_recorded_image


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedImage:
    """An image by its name in an engine, and a container of it."""

    reference: str
    runtime: Runtime


def find_image(record: Record) -> RecordedImage | None:
    """The image of a run, if an engine has it. Raises NoEngineError where no engine answers."""
    try:
        engine = Engine()
        found = _in_engine(engine, record) or _in_podman(engine, record)
    except NoEngineError:
        # Its images lie in the cache: there is nothing to answer.
        unpacked = _in_apptainer(record)
        if unpacked is None:
            raise
        return unpacked
    return found or _in_apptainer(record)


def provide_image(
    run: RunDir, record: Record, *, offline: bool = False, trusted: tuple[str, ...] = ()
) -> RecordedImage:
    """The image of a run, rebuilt where no engine has it. Raises NoEngineError or ImageError."""
    if found := find_image(record):
        return found
    engine = Engine()
    image = provide_recorded(engine, run, record, offline=offline, trusted=trusted)
    return RecordedImage(reference=image.reference, runtime=in_recorded_image(engine, image, record))


def _in_engine(engine: Engine, record: Record) -> RecordedImage | None:
    image = find_recorded(engine, record.recipe.image)
    if image is None:
        return None
    return RecordedImage(reference=image.reference, runtime=in_recorded_image(engine, image, record))


def _in_podman(first: Engine, record: Record) -> RecordedImage | None:
    """As Podman has it, beside Docker; what it refuses does not count."""
    if first.runtime == PODMAN or not podman_service.is_installed():
        return None
    with suppress(EngineError):
        return _in_engine(Engine(PODMAN), record)
    return None


def _in_apptainer(record: Record) -> RecordedImage | None:
    found = recorded_in_apptainer(record)
    return None if found is None else RecordedImage(reference=found[0].reference, runtime=found[1])
