"""Where a run is carried out: in a container of its image, or in a virtual environment of its lock."""

import io
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.environment import Environment, RunImage
from samebits.core.errors import EngineError, NoEngineError
from samebits.core.gpu_info import read_gpus
from samebits.core.recipe import Device, ImageIdentity
from samebits.core.record import Record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import RunSetup
from samebits.host.console import log
from samebits.host.image.build_context import CPU, GPU, check_kept, source_digest
from samebits.host.subprocesses import Streams

if TYPE_CHECKING:
    from samebits.host.docker import ContainerRequest, Engine, Image

_CONTAINER_DATA = "/data"
_CONTAINER_RUNS = "/runs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """A way to carry a run out: what it knows beforehand, what it must make first, and the call that trains.

    `run` returns the exit status; what is printed goes to the streams given. `ask` runs the
    entrypoint with other words, over nothing of the user's, and returns its status and what it printed.
    """

    setup: RunSetup
    prepare: Callable[[], object]
    run: Callable[[RunDir, RunConfig, Streams], int]
    ask: Callable[[tuple[str, ...], Mapping[str, str]], tuple[int, str]]


def choose_runtime(spec: RunConfig) -> Runtime:
    """A container where an engine answers, else the locked virtual environment, which is said in one line.

    Raises SettingError where our own environment contradicts the profile: the user may believe that it takes effect.
    """
    spec.determinism.check(os.environ, "your environment")
    device = _device(spec.gpus)
    if spec.runtime != "venv":
        from samebits.host.docker import Engine
        from samebits.host.image.build import identify

        try:
            engine = Engine()
            image, identity = identify(engine, spec.image or (CPU if spec.gpus is None else GPU).tag)
            return _docker_runtime(engine, image, identity, device)
        except NoEngineError as error:
            if spec.runtime == "docker" or spec.image is not None:
                raise
            log(f"{str(error).partition(';')[0]}: training in the locked virtual environment instead")
    identity = ImageIdentity(lock=CPU.lock_digest, source=source_digest(CPU), python=platform.python_version())
    return _venv_runtime(device, identity)


def _device(gpus: str | None) -> Device:
    """The device class asked for; the model is read from the driver, as it belongs to the recipe."""
    if gpus is None:
        return Device()
    report = read_gpus()
    if not report.gpus:
        raise EngineError(f"no GPU can be had: {report.reason}; install NVIDIA's driver, or drop --gpus")
    report.check_driver()
    return report.device(len(report.gpus) if gpus == "all" else int(gpus))


def in_recorded_image(engine: "Engine", image: "Image", record: Record) -> Runtime:
    """In the image that a run was made in; raises EngineError or SettingError where its GPUs cannot be had."""
    return _docker_runtime(engine, image, record.recipe.image, _recorded_device(record))


def in_recorded_venv(run: RunDir, record: Record) -> Runtime:
    """In an environment of the lock that a run keeps, with the source that it keeps.

    Raises ImageError where these are not the recorded ones.
    """
    recorded = record.recipe.image
    device = _recorded_device(record)
    check_kept(run.image, recorded)
    return _venv_runtime(device, replace(recorded, python=platform.python_version()), run.image)


def _recorded_device(record: Record) -> Device:
    device = record.recipe.device
    return _device(None if device.kind == "cpu" else str(device.count))


def _docker_runtime(engine: "Engine", image: "Image", identity: ImageIdentity, device: Device) -> Runtime:
    from samebits.host.docker import ContainerRequest
    from samebits.host.image.build import remembered
    from samebits.host.image.wheelhouse import IMAGE_PYTHON

    environment = Environment(
        runtime="docker",
        engine=engine.describe(),
        image=RunImage(reference=image.reference, id=image.id, details=remembered(image)),
    )
    setup = RunSetup(image=identity, device=device, environment=environment, python=IMAGE_PYTHON)

    def run(folder: RunDir, spec: RunConfig, streams: Streams) -> int:
        return engine.run(plan_container(folder, spec, image), streams)

    def ask(words: tuple[str, ...], variables: Mapping[str, str]) -> tuple[int, str]:
        answer = io.BytesIO()
        user = f"{os.getuid()}:{os.getgid()}"
        request = ContainerRequest(image=image.id, command=words, environment=variables, mounts=(), user=user)
        return engine.run(request, Streams(out=answer)), answer.getvalue().decode()

    return Runtime(setup=setup, prepare=lambda: None, run=run, ask=ask)


def plan_container(folder: RunDir, spec: RunConfig, image: "Image") -> "ContainerRequest":
    """The container for a prepared run: its code and the data read-only, its own folder writable, nothing else."""
    from samebits.host.docker import ContainerRequest

    inside = f"{_CONTAINER_RUNS}/{folder.path.name}"
    mounts: list[tuple[Path, str, bool]] = [
        (folder.path.resolve(), inside, False),
        (folder.code.resolve(), f"{inside}/{folder.code.name}", True),
    ]
    variables: dict[str, str | None] = {**dict.fromkeys(spec.determinism.unset), **spec.variables}
    if spec.data is not None:
        mounts.append((spec.data.resolve(), _CONTAINER_DATA, True))
        variables["SAMEBITS_DATA"] = _CONTAINER_DATA
    return ContainerRequest(
        image=image.id,
        command=("--run", inside),
        environment=variables,
        mounts=tuple(mounts),
        user=f"{os.getuid()}:{os.getgid()}",
        gpus=spec.gpus,
    )


def _venv_runtime(device: Device, identity: ImageIdentity, recipe: Path | None = None) -> Runtime:
    """In the environment of a recipe's lock, with its source; None for those of this samebits."""
    from samebits.host.launch.venv import locked_python, run_in_venv

    if device.kind == "gpu":
        raise EngineError("the virtual environment trains on the CPU only; start a container engine, or drop --gpus")
    environment = Environment(runtime="venv", image_note="a virtual environment has no image digest")

    def run(folder: RunDir, spec: RunConfig, streams: Streams) -> int:
        variables = spec.variables
        if spec.data is not None:
            variables["SAMEBITS_DATA"] = str(spec.data.resolve())
        return run_in_venv(("--run", str(folder.path.resolve())), variables, recipe, streams)

    def ask(words: tuple[str, ...], variables: Mapping[str, str]) -> tuple[int, str]:
        with tempfile.TemporaryFile() as answer:
            status = run_in_venv(words, variables, recipe, Streams(out=answer))
            answer.seek(0)
            return status, answer.read().decode()

    setup = RunSetup(image=identity, device=device, environment=environment)
    return Runtime(setup=setup, prepare=lambda: locked_python(recipe), run=run, ask=ask)
