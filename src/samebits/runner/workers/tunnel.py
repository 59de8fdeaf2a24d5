"""How a worker in a container without a network reaches the others: through its launcher.

Each of them has an address on the container's own loopback interface. A process of this module listens there, and
passes what comes to a socket of the launcher, which is mounted. `host.launch.tunnel` is the other side, and describes
what goes over that socket. So the script reaches the other workers' ports, and nothing else.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from samebits.core.connections import Listener, copy_between, read_line, send_at_once, short_path, stop
from samebits.core.errors import InputError
from samebits.core.run_dir import TUNNEL_SOCKET, RunDir
from samebits.runner.process.launcher_watch import end_with_parent
from samebits.runner.process.private_network import leave_networks
from samebits.runner.workers.agreement import CHIEF
from samebits.runner.workers.ports import free_addresses

_LOOPBACK = "127.0.0.1"
_FIRST_PORT = 10240
"""Of worker 0. The network is the container's own, so nobody else has these ports, and all workers know them."""

_TRIES_SECONDS = 20.0
"""How long a port of this worker may still be closed: TensorFlow's server starts with the script's strategy."""

_POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a worker trains: its own address for the others, and where the chief is met, if that is no free port."""

    own: str
    meeting: tuple[str, int] | None = None


def place_of(folder: RunDir, index: int, hosts: Sequence[str]) -> Place:
    """The place of a worker: on its node's network, or on a container's own, where its launcher's tunnel is opened."""
    if not folder.tunnel.is_dir():
        return Place(own=free_addresses(1, hosts[index])[0])
    # A container that has a network all the same would offer TensorFlow's server there.
    leave_networks()
    _open(folder.tunnel, index, len(hosts))
    return Place(own=f"{_LOOPBACK}:{_FIRST_PORT + index}", meeting=(_LOOPBACK, _FIRST_PORT + len(hosts)))


def _open(tunnel: Path, index: int, workers: int) -> None:
    """Start the process that stands for the other workers at their addresses. Raises InputError where one is taken."""
    ports = [(other, _FIRST_PORT + other) for other in range(workers) if other != index]
    if index != CHIEF:
        ports.append((CHIEF, _FIRST_PORT + workers))
    servers: list[tuple[int, socket.socket]] = []
    for other, port in ports:
        try:
            servers.append((other, socket.create_server((_LOOPBACK, port))))
        except OSError as error:
            raise InputError(f"the port {port} of the container is taken: {error.strerror}") from error
    parent = os.getpid()
    if not os.fork():
        _serve(tunnel, servers, parent)
    for _, server in servers:
        server.close()


def _serve(tunnel: Path, servers: Sequence[tuple[int, socket.socket]], parent: int) -> NoReturn:
    """Copy until this process is ended with the one that started it, or the launcher is gone."""
    try:
        end_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for other, server in servers:
            request = f"to {other} {server.getsockname()[1]}\n"
            Listener(server, partial(_send_out, tunnel, request))
        _receive(tunnel)
    finally:
        os._exit(0)


def _in_thread(function: Callable[..., object], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _asked(tunnel: Path, request: str) -> socket.socket:
    """A connection to the launcher, with what is asked of it."""
    channel = socket.socket(socket.AF_UNIX)
    try:
        with short_path(tunnel, TUNNEL_SOCKET) as path:
            channel.connect(path)
        channel.sendall(request.encode())
    except OSError:
        channel.close()
        raise
    return channel


def _send_out(tunnel: Path, request: str, channel: socket.socket) -> None:
    """Connect what somebody here has opened to the same port of another worker."""
    send_at_once(channel)
    copy_between(channel, _asked(tunnel, request))


def _receive(tunnel: Path) -> None:
    """Take connections of other workers, one after another, until the launcher is gone."""
    with suppress(OSError, ValueError):
        while True:
            waiting = _asked(tunnel, "wait\n")
            port = int(read_line(waiting))
            _in_thread(_hand_in, waiting, port)


def _hand_in(channel: socket.socket, port: int) -> None:
    """Connect what came for a port of this worker."""
    deadline = time.monotonic() + _TRIES_SECONDS
    with channel:
        while time.monotonic() < deadline:
            try:
                inside = socket.create_connection((_LOOPBACK, port))
            except OSError:
                time.sleep(_POLL_SECONDS)
                continue
            send_at_once(inside)
            copy_between(channel, inside)
            return
        stop(channel)
