"""Podman's own service, which speaks Docker's interface: started for this process where no socket of it is there.

It ends with this process, or a minute after the last container that this process followed.
"""

import atexit
import os
import shutil
import socket
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from samebits.core.errors import NoEngineError
from samebits.host.subprocesses import Service, in_background

PROGRAM = "podman"
_IDLE_SECONDS = 60
_START_SECONDS = 20.0


def is_installed() -> bool:
    """Whether Podman's program is on the path."""
    return shutil.which(PROGRAM) is not None


@cache
def podman_address() -> str:
    """Where a service of Podman answers, which this process has started. Raises NoEngineError."""
    if not is_installed():
        raise NoEngineError("Podman is not installed; install it, or choose another --runtime", configured=False)
    # Short and private: a socket's name has 107 bytes at most, and who may write to it may start containers.
    folder = Path(tempfile.mkdtemp(prefix="samebits-podman-"))
    address = folder / "podman.sock"
    words = (PROGRAM, "system", "service", f"--time={_IDLE_SECONDS}", f"unix://{address}")
    service = in_background(words, folder / "log", without=_broken_variables())
    atexit.register(_end, service, folder)
    deadline = time.monotonic() + _START_SECONDS
    while not _listens(address):
        if service.has_ended() or time.monotonic() > deadline:
            raise NoEngineError(f"Podman does not start: {_last_line(folder / 'log')}", configured=True)
        time.sleep(0.02)
    return f"unix://{address}"


def _listens(address: Path) -> bool:
    """Whether somebody accepts connections; the socket is there a little earlier."""
    with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
        client.connect(str(address))
        return True
    return False


def _broken_variables() -> list[str]:
    """Podman reads Docker's client configuration, and fails where that is named and missing."""
    named = os.environ.get("DOCKER_CONFIG")
    return ["DOCKER_CONFIG"] if named and not os.path.isfile(os.path.join(named, "config.json")) else []


def _last_line(log: Path) -> str:
    lines = os.fsdecode(log.read_bytes()).split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it reports nothing")


def _end(service: Service, folder: Path) -> None:
    service.stop()
    shutil.rmtree(folder, ignore_errors=True)
