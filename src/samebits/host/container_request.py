"""What a container is started with: our request, and the options of the engine's interface that it becomes."""

import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from samebits.core.errors import InputError
from samebits.host.engine_gpus import device_request

_PID_MAX = Path("/proc/sys/kernel/pid_max")
_FILES = 1 << 20
_PODMANS = ("/run", "/var/tmp")  # noqa: S108  in the container: those that Podman adds


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerRequest:
    """One container to start: `mounts` are (host path, container path, read-only); a variable of None is removed."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str | None]
    mounts: tuple[tuple[Path, str, bool], ...]
    user: str
    gpus: str | None = None
    network: str = "none"
    entrypoint: tuple[str, ...] | None = None  # None: the image's own
    watches: bool = False
    """Whether its first process watches the others, so that nothing in the container can end or stop the watching."""


def creation_options(
    request: ContainerRequest,
    info: Mapping[str, Any] | None = None,
    *,
    limits: Mapping[str, Any] = MappingProxyType({}),
    podman: bool = False,
) -> dict[str, Any]:
    """A hardened container: no capability, no network but in a fetch; only the run's folder and /tmp are writable.

    `info` is what the engine says of itself, `limits` are options, too. For `podman` they are closed where it opens
    more than Docker. Raises InputError for a folder that Podman would not mount under its name.
    """
    options = {**limits, **_usual_options(request, info or {})}
    return _for_podman(request, options) if podman else options


def _usual_options(request: ContainerRequest, info: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image": request.image,
        "command": list(request.command),
        "entrypoint": None if request.entrypoint is None else list(request.entrypoint),
        "environment": dict(request.environment),
        # The client's proxy, with its password, is none of the script's business.
        "use_config_proxy": False,
        "mounts": [
            {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": read_only}
            for source, target, read_only in request.mounts
        ],
        "user": request.user,
        "device_requests": [] if request.gpus is None else [device_request(request.gpus, info)],
        "network_mode": request.network,
        # A fetch has a folder in the place of /tmp.
        **({} if request.network == "none" else {"tmpfs": {}}),
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        # A core dump has the size of the memory, and the machine may hand it to a program of its own.
        "ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        # Else tini is process 1: it reaps zombies, and passes signals on, which Python as process 1 would ignore.
        "init": not request.watches,
        "stdin_open": True,
        # The engine removes it even if this process is killed; `labels` let tests and users find leftovers.
        "auto_remove": True,
        "labels": {"samebits": "run"},
    }


def _for_podman(request: ContainerRequest, options: dict[str, Any]) -> dict[str, Any]:
    check_names(request, "Podman")
    # It would set higher limits than this process has, which it may not be allowed to.
    ulimits = [*options["ulimits"], *_own_limits()]
    return options | {"ulimits": ulimits, "tmpfs": _closed_tmpfs(options.get("tmpfs", {}))}


def check_names(request: ContainerRequest, engine: str) -> None:
    """Raise InputError for a folder whose name Podman or Apptainer would read as options of its mount."""
    # A mount is one line of comma-separated options there: another `source` would give the container another folder.
    for source, target, _ in request.mounts:
        for name in (str(source), target):
            if any(character in name for character in ',"\n\r'):
                what = "its name has a comma, a quote or a line break"
                raise InputError(f"{engine} cannot mount {name!r}: {what}; rename it, or use Docker")


def _closed_tmpfs(tmpfs: Mapping[str, str]) -> dict[str, str]:
    """The file systems in memory, as Docker has them: Podman adds two that can be written, and executes from all."""
    closed = dict.fromkeys(_PODMANS, "ro,noexec,nosuid,nodev,size=4k")
    return closed | {path: f"{options},noexec,nosuid,nodev" for path, options in tmpfs.items()}


def _own_limits() -> Iterator[dict[str, Any]]:
    """The limits of this process on open files and processes, for the container."""
    # Podman lowers its own limit on processes to the number of ids that there are.
    ids = int(_PID_MAX.read_text())
    for name, which, most in (("nofile", resource.RLIMIT_NOFILE, _FILES), ("nproc", resource.RLIMIT_NPROC, ids)):
        soft, hard = (most if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(which))
        yield {"Name": name, "Soft": min(soft, most), "Hard": min(hard, most)}
