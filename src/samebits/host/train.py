"""`samebits train`: choose the runtime, prepare the run, have it carried out, and see to it that it ends sealed."""

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samebits.errors import EngineError, NoEngineError, SamebitsError, Terminated
from samebits.gpu import read_gpus
from samebits.host.display import hashing_progress, say
from samebits.host.source import CPU, GPU, source_digest
from samebits.ledger import hold
from samebits.prepare import Setup, plan_run, publish
from samebits.recipe import Device, ImageIdentity
from samebits.record import FAILED, Outcome, Record, interrupted, read_record, seal
from samebits.runfolder import RunFolder
from samebits.spec import RunSpec

if TYPE_CHECKING:
    from samebits.host.engine import ContainerRequest, Engine, Image

_CONTAINER_DATA = "/data"
_CONTAINER_RUNS = "/runs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """A way to carry a run out: what it knows beforehand, what it must make first, and the call that trains.

    `ask` runs the entrypoint with other words, over nothing of the user's.
    """

    setup: Setup
    make_ready: Callable[[], object]
    run: Callable[[RunFolder, RunSpec], int]
    ask: Callable[[tuple[str, ...], Mapping[str, str]], int]


def train(spec: RunSpec) -> tuple[RunFolder, int]:
    """Train once; returns the run's folder and exit status: 0, 1 for a script that failed, 2 for an error."""
    runtime = choose_runtime(spec)
    with hashing_progress("hashing the data") as progress:
        planned = plan_run(spec, runtime.setup, progress)
    runtime.make_ready()
    folder, _ = publish(planned)
    held = hold(folder.ledger)
    try:
        status = runtime.run(folder, spec)
        return folder, _see_sealed(folder, status)
    except (KeyboardInterrupt, Terminated):
        _seal_unsealed(folder, lambda record: interrupted(record, "stopped before it could seal its own record"))
        raise
    except SamebitsError as error:
        message = str(error)
        _seal_unsealed(folder, lambda record: replace(record, outcome=Outcome(state=FAILED, message=message)))
        raise
    finally:
        os.close(held)


def choose_runtime(spec: RunSpec) -> Runtime:
    """A container where an engine answers, else the locked virtual environment, which is said in one line.

    Raises SettingError where our own environment contradicts the profile: the user may believe that it takes effect.
    """
    spec.determinism.check(os.environ, "your environment")
    device = _device(spec.gpus)
    if spec.runtime != "venv":
        from samebits.host.engine import Engine

        try:
            return _docker_runtime(Engine(), spec, device)
        except NoEngineError as error:
            if spec.runtime == "docker" or spec.image is not None:
                raise
            say(f"{str(error).partition(';')[0]}: training in the locked virtual environment instead")
    return _venv_runtime(device)


def _device(gpus: str | None) -> Device:
    """The device class asked for; the model is read from the driver, as it belongs to the recipe."""
    if gpus is None:
        return Device()
    report = read_gpus()
    if not report.gpus:
        raise EngineError(f"no GPU can be had: {report.reason}; install NVIDIA's driver, or drop --gpus")
    report.check_driver()
    return report.device(len(report.gpus) if gpus == "all" else int(gpus))


def _docker_runtime(engine: "Engine", spec: RunSpec, device: Device) -> Runtime:
    from samebits.host.engine import ContainerRequest
    from samebits.host.image import identify, remembered
    from samebits.host.wheelhouse import IMAGE_PYTHON

    image, identity = identify(engine, spec.image or (CPU if spec.gpus is None else GPU).tag)
    environment = {
        "runtime": "docker",
        "engine": engine.describe(),
        "image": {"reference": image.reference, "id": image.id, **remembered(image)},
    }
    setup = Setup(image=identity, device=device, environment=environment, python=IMAGE_PYTHON)

    def run(folder: RunFolder, spec: RunSpec) -> int:
        return engine.run(plan_container(folder, spec, image))

    def ask(words: tuple[str, ...], variables: Mapping[str, str]) -> int:
        user = f"{os.getuid()}:{os.getgid()}"
        return engine.run(ContainerRequest(image=image.id, command=words, environment=variables, mounts=(), user=user))

    return Runtime(setup=setup, make_ready=lambda: None, run=run, ask=ask)


def plan_container(folder: RunFolder, spec: RunSpec, image: "Image") -> "ContainerRequest":
    """The container for a prepared run: its code and the data read-only, its own folder writable, nothing else."""
    from samebits.host.engine import ContainerRequest

    inside = f"{_CONTAINER_RUNS}/{folder.path.name}"
    mounts: list[tuple[Path, str, bool]] = [
        (folder.path.resolve(), inside, False),
        (folder.code.resolve(), f"{inside}/{folder.code.name}", True),
    ]
    variables = dict(spec.determinism.variables)
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


def _venv_runtime(device: Device) -> Runtime:
    from samebits.host.venv import locked_python, run_in_venv

    if device.kind == "gpu":
        raise EngineError("the virtual environment trains on the CPU only; start a container engine, or drop --gpus")
    identity = ImageIdentity(lock=CPU.lock_digest, source=source_digest(CPU), python=platform.python_version())
    environment = {"runtime": "venv", "engine": None, "image_note": "a virtual environment has no image digest"}

    def run(folder: RunFolder, spec: RunSpec) -> int:
        variables = dict(spec.determinism.variables)
        if spec.data is not None:
            variables["SAMEBITS_DATA"] = str(spec.data.resolve())
        return run_in_venv(("--run", str(folder.path.resolve())), variables)

    setup = Setup(image=identity, device=device, environment=environment)
    return Runtime(setup=setup, make_ready=locked_python, run=run, ask=run_in_venv)


def fingerprint(spec: RunSpec, *, as_json: bool) -> int:
    """Have the runtime say how this machine computes; of the request only profile, runtime and image count."""
    runtime = choose_runtime(spec)
    runtime.make_ready()
    words = ("fingerprint", "--profile", spec.profile, *(("--json",) if as_json else ()))
    return runtime.ask(words, spec.determinism.variables)


def _see_sealed(folder: RunFolder, status: int) -> int:
    """The exit status, once the record is sealed; a run that died without a word is sealed here as failed."""
    if read_record(folder.record).sealed:
        return status
    killed = status in (137, -9)
    message = f"the training process ended with status {status} before it sealed its record" + (
        "; it was killed, most likely for want of memory" if killed else ""
    )
    say(message)
    _seal_unsealed(folder, lambda record: replace(record, outcome=Outcome(state=FAILED, message=message)))
    return 2


def _seal_unsealed(folder: RunFolder, end: Callable[[Record], Record]) -> None:
    record = read_record(folder.record)
    if not record.sealed:
        folder.reserve.unlink(missing_ok=True)
        seal(folder.record, end(record))


def describe_run(folder: RunFolder) -> dict[str, Any]:
    """What `train --json` prints."""
    record = folder.read()
    return {
        "run": str(folder.path),
        "outcome": record.outcome.state,
        "recipe": str(record.recipe.digest),
        "result": None if record.result_digest is None else str(record.result_digest),
    }
