"""Where a run executes: in a container of its image, or in a virtual environment made from its lock."""

import io
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.environment import APPTAINER, DOCKER, PODMAN, Environment, RunImage
from samebits.core.errors import EngineError, ImageError, InputError, NoEngineError
from samebits.core.gpu_info import read_gpus
from samebits.core.recipe import Device, ImageIdentity
from samebits.core.record import Record
from samebits.core.run_config import CONTAINER, RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import RunSetup
from samebits.host.console import log
from samebits.host.image.build_context import CPU, GPU, ImageKind, source_digest, staged_context
from samebits.host.image.project_lock import project_kind
from samebits.host.image.received import is_installed, packed_beside, received_context
from samebits.host.image.wheelhouse import Target
from samebits.host.inputs.network import Network
from samebits.host.inputs.store import folder_of
from samebits.host.interpreters import Interpreter, find_interpreter, recorded_interpreter, this_interpreter
from samebits.host.subprocesses import Streams
from samebits.host.trust import is_named, require_trust

if TYPE_CHECKING:
    from samebits.host.docker import Engine, Image

_ENGINES = {"auto": (DOCKER,), CONTAINER: (DOCKER, PODMAN, APPTAINER)}
"""Which engines are asked, in this order, where the user names none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """A way to execute a run.

    `setup` is known before anything starts. `prepare` makes what is missing. `run` trains, copies the output to the
    streams, and returns the exit status. `query` calls the entrypoint with other arguments, without the user's script
    and data, and returns its exit status and stdout. `fetch` runs the script with the network on, in a home folder that
    stays. `work` trains as one worker of a run that another node has begun, and returns the exit status. `linked` gives
    the same container with a folder that holds its launcher's socket, see `tunnel`. `here` is False if another machine
    executes it, `isolated` if the script runs in a container that the launcher started.
    """

    setup: RunSetup
    prepare: Callable[[], object]
    run: Callable[[RunDir, RunConfig, Streams], int]
    query: Callable[[tuple[str, ...], Mapping[str, str]], tuple[int, str]]
    fetch: Callable[[RunDir, RunConfig, Path], int] | None = None
    work: Callable[[RunDir, RunConfig, int], int] | None = None
    linked: Callable[[Path], "Runtime"] | None = None
    here: bool = True
    isolated: bool = True


def choose_runtime(spec: RunConfig, wanted: ImageIdentity | None = None) -> Runtime:
    """A container if an engine answers, else the locked virtual environment, with one message.

    An image that is `wanted` is taken under any name. Raises SettingError if a variable of the caller's environment
    contradicts the profile. It would have no effect, and the user may expect one.
    """
    # Checked first: it takes no time, and a contradiction stops the run anyway.
    spec.determinism.check(os.environ, "your environment")
    device = device_for(spec.gpus)
    if spec.runtime != "venv":
        try:
            return _container(spec, device, wanted)
        except NoEngineError as error:
            # Where an engine is asked for or configured, nothing falls back to less isolation.
            if spec.runtime != "auto" or spec.image is not None or error.configured:
                raise NoEngineError(f"{error}, or use --runtime venv", configured=error.configured) from error
            log(f"{str(error).partition(';')[0]}: training in the locked virtual environment instead")
    interpreter = find_interpreter(spec.python)
    kind = project_kind(spec, Target(python=interpreter.minor))
    identity = _venv_identity(kind, interpreter)
    return _venv_runtime(device, identity, staged_context(kind), interpreter, thorough=spec.strict)


def _container(spec: RunConfig, device: Device, wanted: ImageIdentity | None) -> Runtime:
    """A container of the first engine that has the image, or can have it. Raises NoEngineError, or what it refused."""
    kinds = _ENGINES.get(spec.runtime, (spec.runtime,))
    refused: list[str] = []
    for kind in kinds:
        try:
            return _of_kind(kind, spec, device, wanted)
        except (EngineError, ImageError) as error:
            if len(kinds) == 1:
                raise
            # What to do about one engine is no advice where there are others.
            refused.append(f"{kind}: {str(error).partition(';')[0] if isinstance(error, NoEngineError) else error}")
    raise NoEngineError(f"no container engine can run the image: {'; '.join(refused)}")


def _of_kind(kind: str, spec: RunConfig, device: Device, wanted: ImageIdentity | None) -> Runtime:
    if kind == APPTAINER:
        from samebits.host.launch.apptainer_runtime import choose_apptainer

        return choose_apptainer(spec, device, wanted)
    from samebits.host.docker import Engine
    from samebits.host.image.identify import find_or_build

    engine = Engine(kind)
    image, identity = find_or_build(engine, project_kind(spec), spec.image, wanted)
    check_knows_workers(spec, identity)
    return _engine_runtime(engine, image, identity, device)


def is_own_source(identity: ImageIdentity) -> bool:
    """Whether an image's runner is that of this installation."""
    return any(identity.source == source_digest(kind) for kind in (CPU, GPU))


def check_knows_workers(spec: RunConfig, identity: ImageIdentity) -> None:
    """Raise InputError for several workers in an image of another samebits: an older runner would start only one."""
    if spec.workers > 1 and not is_own_source(identity):
        raise InputError("the image holds another samebits, which may not know --workers; run `samebits build` first")


def device_for(gpus: str | None) -> Device:
    """The requested device; the GPU model is read from the driver, because it is part of the recipe."""
    if gpus is None:
        return Device()
    # Asked of the driver, because the engine does not know the model of a GPU.
    report = read_gpus(multiprocessors=True)
    if not report.gpus:
        raise EngineError(f"no GPU is available: {report.reason}; install NVIDIA's driver, or drop --gpus")
    report.check_driver()
    report.check_architecture()
    return report.device(len(report.gpus) if gpus == "all" else int(gpus))


def in_recorded_image(engine: "Engine", image: "Image", record: Record) -> Runtime:
    """A container of the run's image; raises EngineError or SettingError if the recorded GPUs are not available."""
    return of_recorded(_engine_runtime(engine, image, record.recipe.image, recorded_device(record)), record)


def was_in_container(record: Record) -> bool:
    """Whether a run was trained in a container, by its recipe; what else its record says decides nothing."""
    # A virtual environment names its Python. An image's is part of the base.
    return record.recipe.image.python is None


def in_recorded_venv(run: RunDir, record: Record, trusted: tuple[str, ...] = ()) -> Runtime:
    """A virtual environment with the lock and the source of a run.

    Raises UntrustedError if they were not executed here before and the run is not among those `trusted`, ImageError if
    the run's folder does not hold them.
    """
    recorded = record.recipe.image
    device = recorded_device(record)
    require_trust(run, record, trusted)
    interpreter = recorded_interpreter(recorded.python)
    identity = replace(recorded, python=interpreter.version)
    # Of this installation's own software, nothing of the folder is executed.
    context = staged_context() if is_installed(recorded) else received_context(run.image, recorded)
    packed = packed_beside(run.path, "wheels")
    runtime = _venv_runtime(device, identity, context, interpreter, packed, thorough=record.strict)
    setup = replace(runtime.setup, trusted_code=is_named(run, record, trusted))
    return of_recorded(replace(runtime, setup=setup), record)


def installed_venv(record: Record) -> Runtime:
    """The virtual environment of this installation, for the device of a run."""
    interpreter = this_interpreter()
    return _venv_runtime(recorded_device(record), _venv_identity(CPU, interpreter), staged_context(), interpreter)


def _venv_identity(kind: ImageKind, interpreter: Interpreter) -> ImageIdentity:
    """The image of a virtual environment is its locks, its source and the Python that it was made with."""
    return ImageIdentity(
        lock=kind.lock_digest,
        packages=kind.packages_digest,
        source=source_digest(kind),
        python=interpreter.version,
    )


def of_recorded(runtime: Runtime, record: Record) -> Runtime:
    """The runtime of a recorded run, whose own runner goes on with the new record."""
    return replace(runtime, setup=replace(runtime.setup, record_version=record.version))


def recorded_device(record: Record) -> Device:
    """The device of a run, as this machine has it; raises EngineError or SettingError where it has none."""
    device = record.recipe.device
    here = device_for(None if device.kind == "cpu" else str(device.count))
    # A recipe from before version 1.7 has no such number; preflight compares what the run observed.
    return here if device.multiprocessors is not None else replace(here, multiprocessors=None)


def _engine_runtime(
    engine: "Engine", image: "Image", identity: ImageIdentity, device: Device, tunnel: Path | None = None
) -> Runtime:
    from samebits.host.image.build import image_python, known_metadata
    from samebits.host.launch.container import run_container
    from samebits.host.launch.container_plan import plan_container, plan_fetch, plan_query, plan_worker

    # A runner of an older samebits checks the container around it under this name alone, and cannot be process 1.
    known = is_own_source(identity)
    environment = Environment(
        runtime=engine.runtime if known else DOCKER,
        engine=engine.describe(),
        image=RunImage(reference=image.reference, id=image.id, details=known_metadata(image)),
    )
    setup = RunSetup(image=identity, device=device, environment=environment, python=image_python(image))

    def run(folder: RunDir, spec: RunConfig, streams: Streams) -> int:
        return run_container(engine, replace(plan_container(folder, spec, image, tunnel), watches=known), streams)

    def work(folder: RunDir, spec: RunConfig, index: int) -> int:
        return run_container(engine, plan_worker(folder, spec, image, index, tunnel), Streams(out=io.BytesIO()))

    def linked(socket: Path) -> Runtime:
        return _engine_runtime(engine, image, identity, device, socket)

    def fetch(folder: RunDir, spec: RunConfig, home: Path) -> int:
        return run_container(engine, plan_fetch(folder, spec, image, home))

    def query(arguments: tuple[str, ...], variables: Mapping[str, str]) -> tuple[int, str]:
        output = io.BytesIO()
        request = plan_query(arguments, variables, image)
        return run_container(engine, request, Streams(out=output)), output.getvalue().decode()

    return Runtime(
        setup=setup,
        prepare=lambda: None,
        run=run,
        query=query,
        fetch=fetch,
        work=work,
        linked=linked,
        here=engine.is_here(),
    )


def _venv_runtime(
    device: Device,
    identity: ImageIdentity,
    context: Path,
    interpreter: Interpreter,
    packed: Path | None = None,
    *,
    thorough: bool = False,
) -> Runtime:
    """A virtual environment for a build context's locks and source, made of the wheels in `packed` if it is missing."""
    from samebits.host.launch.venv import prepare_venv, run_in_venv

    if device.kind == "gpu":
        raise EngineError("the virtual environment trains on the CPU only; start a container engine, or drop --gpus")
    environment = Environment(runtime="venv", image_note="a virtual environment has no image digest")
    execute = partial(run_in_venv, interpreter=interpreter, packed=packed)

    def run(folder: RunDir, spec: RunConfig, streams: Streams) -> int:
        return execute(_words(folder), venv_variables(folder, spec), context, streams)

    def fetch(folder: RunDir, spec: RunConfig, home: Path) -> int:
        network = Network.of(os.environ, home, str(home))
        return execute(_words(folder), venv_variables(folder, spec) | network.variables, context, home=home)

    def query(arguments: tuple[str, ...], variables: Mapping[str, str]) -> tuple[int, str]:
        # A file, because a pipe that nobody reads while the process runs would block it.
        with tempfile.TemporaryFile() as output:
            status = execute(arguments, variables, context, Streams(out=output))
            output.seek(0)
            return status, output.read().decode()

    def work(folder: RunDir, spec: RunConfig, index: int) -> int:
        return query(("--worker", str(folder.path), str(index)), venv_variables(folder, spec))[0]

    setup = RunSetup(image=identity, device=device, environment=environment, python=interpreter.minor)
    prepare = partial(prepare_venv, context, interpreter, packed, thorough=thorough)
    return Runtime(setup=setup, prepare=prepare, run=run, query=query, fetch=fetch, work=work, isolated=False)


def _words(folder: RunDir) -> tuple[str, ...]:
    return "--run", str(folder.path.resolve())


def venv_variables(folder: RunDir, spec: RunConfig) -> dict[str, str]:
    """The variables of a process that trains in the virtual environment."""
    variables = spec.variables
    if spec.data is not None:
        variables["SAMEBITS_DATA"] = str(spec.data.resolve())
    if (inputs := folder_of(folder)) is not None:
        variables["SAMEBITS_INPUTS"] = str(inputs.resolve())
    return variables
