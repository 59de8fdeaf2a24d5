"""Workers on several nodes, in containers without a network: their launchers carry what they exchange.

The launcher of each worker listens on a socket that its container sees (`RunDir.tunnel`), and on a port of its node.
Over the socket the container's process, see `runner.workers.tunnel`, sends one line and then what it has to say:

    to INDEX PORT     for this port of another worker
    wait              for whoever comes next; the answer is a line with the port that was asked for

Launchers find each other by files that no container sees (`RunDir.worker_entrance`). A launcher that connects proves
that it has read the file: it answers a random line with its HMAC. What follows is not encrypted.
"""

import hmac
import os
import queue
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from samebits.core.connections import (
    MOST,
    REQUEST_SECONDS,
    Listener,
    copy_between,
    notice_loss,
    read_line,
    send_at_once,
    short_path,
)
from samebits.core.errors import InputError
from samebits.core.jsonio import Fields, canonical_json, read_json, reading, storage_error, write_atomically
from samebits.core.run_dir import TUNNEL_SOCKET, RunDir
from samebits.host.launch.runtime import Runtime

WAIT_SECONDS = 60.0
"""What another launcher gets to appear, and a container to take what came for it."""

_POLL_SECONDS = 0.2
_PORTS = range(1, 1 << 16)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entrance:
    """Where a launcher listens for those of other nodes, and what they must know."""

    host: str
    port: int
    secret: str

    def write(self, path: Path) -> None:
        values = {"host": self.host, "port": self.port, "secret": self.secret}
        write_atomically(path, canonical_json(values), mode=0o600)

    @classmethod
    def read(cls, path: Path) -> "_Entrance":
        """Raises RecordError."""
        value = read_json(path)
        with reading(path):
            fields = Fields(value)
            return cls(host=fields.get("host", str), port=fields.get("port", int), secret=fields.get("secret", str))

    def answer(self, nonce: str, port: int) -> str:
        """What proves that one knows the secret, and asks for a port."""
        return hmac.new(self.secret.encode(), f"{nonce} {port}".encode(), "sha256").hexdigest()


@contextmanager
def through_tunnel(runtime: Runtime, run: RunDir, index: int, address: str) -> Iterator[Runtime]:
    """The runtime of one worker in a container, which reaches those on other nodes while the body runs.

    `address` is this node's for the others. Raises InputError where the container would be on another machine.
    """
    if runtime.linked is None or not runtime.here:
        raise InputError("several workers need a container engine on each node itself, or --runtime venv")
    with tempfile.TemporaryDirectory(prefix="samebits-", ignore_cleanup_errors=True) as folder:
        tunnel = Tunnel(run, index, address, Path(folder))
        try:
            yield runtime.linked(Path(folder))
        finally:
            tunnel.close()


class Tunnel:
    """One launcher's side, from before its container starts until that has ended."""

    def __init__(self, run: RunDir, index: int, address: str, folder: Path) -> None:
        self._run, self._index = run, index
        self._waiting: queue.Queue[socket.socket] = queue.Queue(MOST)
        inside = socket.socket(socket.AF_UNIX)
        with short_path(folder, TUNNEL_SOCKET) as path:
            inside.bind(path)
        inside.listen(MOST)
        outside = socket.create_server(("", 0), backlog=MOST)
        self._entrance = _Entrance(host=address, port=outside.getsockname()[1], secret=secrets.token_hex(32))
        self._listeners = Listener(inside, self._of_container), Listener(outside, self._of_node)
        try:
            self._entrance.write(run.worker_entrance(index))
        except OSError as error:
            raise storage_error(error, run.workers) from error

    def close(self) -> None:
        """Take no more; what is open ends with the container. That it has ended, the chief's launcher sees."""
        for listener in self._listeners:
            listener.close()
        with suppress(queue.Empty):
            while True:
                self._waiting.get(block=False).close()
        with suppress(OSError):
            os.unlink(self._run.worker_entrance(self._index))

    def _of_container(self, channel: socket.socket) -> None:
        """What the container asks. Nothing it sends leads anywhere but to another worker of this run."""
        words = read_line(channel, time.monotonic() + REQUEST_SECONDS).split()
        channel.settimeout(None)
        if words == [b"wait"]:
            self._waiting.put(channel.dup(), block=False)
        elif len(words) == 3 and words[0] == b"to":
            copy_between(channel, self._reach(int(words[1]), _port(words[2])))

    def _reach(self, index: int, port: int) -> socket.socket:
        """A connection to the launcher of another worker; raises OSError, RecordError or ValueError."""
        path, deadline = self._run.worker_entrance(index), time.monotonic() + WAIT_SECONDS
        while not path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(_POLL_SECONDS)
        other = _Entrance.read(path)
        channel = socket.create_connection((other.host, other.port), timeout=REQUEST_SECONDS)
        try:
            nonce = read_line(channel, time.monotonic() + REQUEST_SECONDS).decode().strip()
            channel.sendall(f"{other.answer(nonce, port)} {port}\n".encode())
            _tune(channel)
        except (OSError, ValueError):
            channel.close()
            raise
        return channel

    def _of_node(self, channel: socket.socket) -> None:
        """Whoever connects over the network: another launcher, or a stranger, who gets nothing."""
        nonce, until = secrets.token_hex(32), time.monotonic() + REQUEST_SECONDS
        channel.sendall(f"{nonce}\n".encode())
        proof, asked = read_line(channel, until).decode().split()
        port = _port(asked.encode())
        if not hmac.compare_digest(proof.encode(), self._entrance.answer(nonce, port).encode()):
            return
        _tune(channel)
        with self._waiting.get(timeout=WAIT_SECONDS) as inside:
            inside.sendall(f"{port}\n".encode())
            copy_between(channel, inside)


def _tune(channel: socket.socket) -> None:
    notice_loss(channel)
    send_at_once(channel)


def _port(text: bytes) -> int:
    """A number of a port; raises ValueError."""
    port = int(text)
    if port not in _PORTS:
        raise ValueError("no port")
    return port
