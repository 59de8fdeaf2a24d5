"""Connections between workers on different nodes: bytes copied from one to another, and the loss of a node noticed."""

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from samebits.core.errors import RecordError

MOST = 256
"""Connections at a time: of a container, or of strangers on the network, who may open as many as they like."""

REQUEST_SECONDS = 10.0
"""What anybody who connects gets to say who it is."""

MAX_LINE = 1 << 16
"""The longest line that anybody may send to say who it is."""

_SILENT_SECONDS = 5
"""After which a node that answers nothing is lost. TensorFlow itself has the script fail, 5 to 10 s after the loss."""

_PART = 1 << 18
_PAUSE_SECONDS = 0.1
_ENDS = (OSError, ValueError, RecordError, queue.Empty, queue.Full)
"""With which a connection may end: what came over it was wrong, or nobody took it."""


class Listener:
    """Serves whoever connects to a socket, each in a thread of its own, until it is closed."""

    def __init__(self, server: socket.socket, serve: Callable[[socket.socket], object]) -> None:
        self._server, self._serve = server, serve
        self._free = threading.BoundedSemaphore(MOST)
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more; what is open stays."""
        self._closed = True
        stop(self._server)

    def _accept(self) -> None:
        with self._server:
            while not self._closed:
                try:
                    channel, _ = self._server.accept()
                except OSError:
                    # Somebody was gone before, or too many files are open. Others may still come.
                    if not self._closed:
                        time.sleep(_PAUSE_SECONDS)
                    continue
                if self._free.acquire(blocking=False):
                    threading.Thread(target=self._serve_one, args=(channel,), daemon=True).start()
                else:
                    channel.close()

    def _serve_one(self, channel: socket.socket) -> None:
        try:
            with channel, suppress(*_ENDS):
                self._serve(channel)
        finally:
            self._free.release()


def read_line(channel: socket.socket, until: float | None = None) -> bytes:
    """One line, and nothing beyond it; raises OSError where it is not there at a time."""
    found = b""
    while not found.endswith(b"\n"):
        if until is not None:
            channel.settimeout(max(until - time.monotonic(), 0.001))
        part = channel.recv(1)
        if not part or len(found) > MAX_LINE:
            raise OSError("the connection was closed")
        found += part
    return found


def notice_loss(channel: socket.socket) -> None:
    """Have a connection end when the other node is gone: one without power closes nothing."""
    channel.settimeout(None)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    asked = ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, _SILENT_SECONDS - 2))
    for option, value in asked:
        channel.setsockopt(socket.IPPROTO_TCP, option, value)
    # The kernel asks only where nothing is on its way. What is on its way must be confirmed.
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_SECONDS * 1000)


def send_at_once(channel: socket.socket) -> None:
    """Have a connection send small messages without waiting for more: what is copied was already collected."""
    channel.settimeout(None)
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def copy_between(one: socket.socket, two: socket.socket) -> None:
    """Copy what comes over each of two connections to the other, until both have ended, and close them."""
    with one, two:
        for channel in (one, two):
            channel.settimeout(None)
        back = threading.Thread(target=_copy, args=(two, one), daemon=True)
        back.start()
        _copy(one, two)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while part := source.recv(_PART):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # Where one of them broke, the other must not wait for more.
        for channel in (source, target):
            stop(channel)


def stop(channel: socket.socket) -> None:
    """End a connection, or a server, also for a thread that waits for it: closing alone would not wake that."""
    with suppress(OSError):
        channel.shutdown(socket.SHUT_RDWR)


@contextmanager
def short_path(folder: Path, name: str) -> Iterator[str]:
    """A path of a file in a folder that is short enough for the address of a socket: 107 bytes.

    Raises OSError where the folder is a link: a script may have put one in its place.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
