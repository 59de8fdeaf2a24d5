"""The runtime of Apptainer, which most clusters have in Docker's place: a container of an unpacked image."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from samebits.core.environment import APPTAINER, DOCKER, Environment, RunImage
from samebits.core.errors import EngineError
from samebits.core.recipe import Device, ImageIdentity
from samebits.core.record import Record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import RunSetup
from samebits.host.apptainer import Apptainer, Unpacked, is_installed, plan_call
from samebits.host.container_request import ContainerRequest
from samebits.host.docker import Image
from samebits.host.image.build import image_python
from samebits.host.image.project_lock import project_kind
from samebits.host.launch.apptainer_images import ApptainerImages
from samebits.host.launch.container_plan import plan_container, plan_fetch, plan_query, plan_worker
from samebits.host.launch.runtime import (
    Runtime,
    check_knows_workers,
    is_own_source,
    of_recorded,
    recorded_device,
)
from samebits.host.launch.unpacked_choice import find_unpacked
from samebits.host.launch.venv import ProcessRequest, run_process
from samebits.host.subprocesses import INHERITED, Streams


def choose_apptainer(spec: RunConfig, device: Device, wanted: ImageIdentity | None) -> Runtime:
    """A container of the image, which is unpacked on first use; raises NoEngineError, ImageError or EngineError."""
    apptainer = Apptainer()
    if device.kind == "gpu":
        raise EngineError("GPUs are not used through Apptainer; use Docker, or drop --gpus")
    images = ApptainerImages(apptainer)
    image, identity = find_unpacked(images, project_kind(spec), spec.image, wanted)
    check_knows_workers(spec, identity)
    return apptainer_runtime(images, image, identity, device, thorough=spec.strict)


def recorded_in_apptainer(record: Record) -> tuple[Image, Runtime] | None:
    """The image of a run as this machine's Apptainer has it, and a container of it; None if it is not unpacked."""
    config = record.recipe.image.config
    if config is None or not is_installed() or record.recipe.device.kind == "gpu":
        return None
    images = ApptainerImages(Apptainer())
    image = images.find(config)
    if image is None:
        return None
    device = recorded_device(record)
    runtime = apptainer_runtime(images, image, record.recipe.image, device, thorough=record.strict)
    return image, of_recorded(runtime, record)


def apptainer_runtime(
    images: ApptainerImages,
    image: Image,
    identity: ImageIdentity,
    device: Device,
    *,
    thorough: bool = False,
    tunnel: Path | None = None,
) -> Runtime:
    """A container of an unpacked image. Raises ImageError for one that Apptainer cannot start."""
    unpacked = images.unpacked(image)
    # As for Docker: a runner of another samebits knows containers under this name alone, and cannot be process 1.
    own = is_own_source(identity)
    environment = Environment(
        runtime=APPTAINER if own else DOCKER,
        engine=images.apptainer.describe(),
        image=RunImage(reference=image.reference, id=image.id, details={"layers": list(image.layers)}),
    )
    setup = RunSetup(image=identity, device=device, environment=environment, python=image_python(image))
    execute = partial(_run, unpacked=unpacked)

    def prepare() -> None:
        images.check(image, thorough=thorough)
        images.apptainer.check_isolation(unpacked)

    def run(folder: RunDir, spec: RunConfig, streams: Streams) -> int:
        return execute(replace(plan_container(folder, spec, image, tunnel), watches=own), streams)

    def work(folder: RunDir, spec: RunConfig, index: int) -> int:
        with tempfile.TemporaryFile() as output:
            return execute(plan_worker(folder, spec, image, index, tunnel), Streams(out=output))

    def linked(socket: Path) -> Runtime:
        return apptainer_runtime(images, image, identity, device, thorough=thorough, tunnel=socket)

    def fetch(folder: RunDir, spec: RunConfig, home: Path) -> int:
        return execute(plan_fetch(folder, spec, image, home))

    def query(arguments: tuple[str, ...], variables: Mapping[str, str]) -> tuple[int, str]:
        # A file, because a pipe that nobody reads while the process runs would block it.
        with tempfile.TemporaryFile() as output:
            status = execute(plan_query(arguments, variables, image), Streams(out=output))
            output.seek(0)
            return status, output.read().decode()

    return Runtime(setup=setup, prepare=prepare, run=run, query=query, fetch=fetch, work=work, linked=linked)


def _run(request: ContainerRequest, streams: Streams = INHERITED, *, unpacked: Unpacked) -> int:
    with tempfile.TemporaryDirectory(prefix="samebits-", ignore_cleanup_errors=True) as scratch:
        call = plan_call(request, unpacked, Path(scratch))
        return run_process(
            ProcessRequest(command=call.command, environment=call.environment, folder=Path(scratch)), streams
        )
