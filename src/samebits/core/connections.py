"""Connections between workers on different nodes: bytes copied from one to another, and the loss of a node noticed."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REQUEST_SECONDS = 10.0
"""What anybody who connects gets to say who it is."""

_SILENT_SECONDS = 5
"""After which a node that answers nothing is lost. TensorFlow itself has the script fail, 5 to 10 s after the loss."""

_MAX_LINE = 1 << 16
_PART = 1 << 18


def read_line(channel: socket.socket, until: float | None = None) -> bytes:
    """One line, and nothing beyond it; raises OSError where it is not there at a time."""
    found = b""
    while not found.endswith(b"\n"):
        if until is not None:
            channel.settimeout(max(until - time.monotonic(), 0.001))
        part = channel.recv(1)
        if not part or len(found) > _MAX_LINE:
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
