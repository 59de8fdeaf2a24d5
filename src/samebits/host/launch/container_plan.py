"""What the container of a run is started with: its command, its variables, and the folders that it sees."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.errors import InputError
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.host.container_request import ContainerRequest
from samebits.host.inputs.network import Network
from samebits.host.inputs.store import folder_of
from samebits.host.launch.staging import path_in_container

if TYPE_CHECKING:
    from samebits.host.docker import Image

CONTAINER_DATA = "/data"
_CONTAINER_HOME = "/tmp"  # noqa: S108
_CONTAINER_INPUTS = "/inputs"


def _current_user() -> str:
    """The caller as `uid:gid`, so that the run's files belong to the caller."""
    return f"{os.getuid()}:{os.getgid()}"


def plan_container(folder: RunDir, spec: RunConfig, image: "Image", tunnel: Path | None = None) -> ContainerRequest:
    """The container for a prepared run: code and data are mounted read-only, its staging folder writable.

    Without a staging folder, as in a fetch, the run's own folder is writable. `tunnel` is a folder with the socket of
    the launcher, by which one of several workers reaches the others.
    """
    # The container sees one run only, at the path that a plain `docker run` uses, too.
    inside = str(path_in_container(folder))
    writable = folder.staging if folder.staging.is_dir() else folder.path
    mounts: list[tuple[Path, str, bool]] = [
        (writable.resolve(), inside, False),
        # Mounted again over the writable folder: the script cannot change its own recorded code.
        (folder.code.resolve(), f"{inside}/{folder.code.name}", True),
    ]
    if tunnel is not None:
        mounts.append((tunnel.resolve(), str(RunDir(Path(inside)).tunnel), True))
    # None removes a variable that the image sets and this profile must not have.
    variables: dict[str, str | None] = {**dict.fromkeys(spec.determinism.unset), **spec.variables}
    if spec.data is not None:
        mounts.append((spec.data.resolve(), CONTAINER_DATA, True))
        variables["SAMEBITS_DATA"] = CONTAINER_DATA
    if (inputs := folder_of(folder)) is not None:
        mounts.append((inputs.resolve(), _CONTAINER_INPUTS, True))
        variables["SAMEBITS_INPUTS"] = _CONTAINER_INPUTS
    return ContainerRequest(
        image=image.id,
        command=("--run", inside),
        environment=variables,
        mounts=tuple(mounts),
        user=_current_user(),
        gpus=spec.gpus,
    )


def plan_worker(folder: RunDir, spec: RunConfig, image: "Image", index: int, tunnel: Path | None) -> ContainerRequest:
    """The container for one worker of a run that another node has begun; raises InputError for a run that has ended."""
    if not folder.staging.is_dir():
        raise InputError(f"the run {folder.path.name} has no folder for its workers: it has ended")
    request = plan_container(folder, spec, image, tunnel)
    words = ("--worker", str(path_in_container(folder)), str(index))
    return replace(request, command=words, watches=True)


def plan_fetch(folder: RunDir, spec: RunConfig, image: "Image", home: Path) -> ContainerRequest:
    """The container for a fetch: with the network, and a home folder that stays."""
    request, network = plan_container(folder, spec, image), Network.of(os.environ, home, _CONTAINER_HOME)
    return replace(
        request,
        environment={**request.environment, **network.variables},
        mounts=(*request.mounts, (home.resolve(), _CONTAINER_HOME, False)),
        network=network.mode,
    )


def plan_query(arguments: tuple[str, ...], variables: Mapping[str, str], image: "Image") -> ContainerRequest:
    """The container for a call of the entrypoint without the user's script and data."""
    return ContainerRequest(image=image.id, command=arguments, environment=variables, mounts=(), user=_current_user())
