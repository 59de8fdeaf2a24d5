"""Whoever connects is served, whatever becomes of others who connect."""

import errno
import socket
import threading
from typing import Any

import pytest

from samebits.core import connections
from samebits.core.connections import Listener


class Troubled(socket.socket):
    """A server whose first connections fail, as where too many files are open."""

    fails = 3

    def accept(self) -> tuple[socket.socket, Any]:
        found = super().accept()
        if self.fails:
            self.fails -= 1
            found[0].close()
            raise OSError(errno.EMFILE, "Too many open files")
        return found


def echo(channel: socket.socket) -> None:
    channel.sendall(channel.recv(9))
    raise ValueError("what came was wrong")


def test_a_connection_that_fails_ends_no_other() -> None:
    server = Troubled()
    server.bind(("127.0.0.1", 0))
    server.listen()
    where = server.getsockname()
    listener = Listener(server, echo)
    answers = []
    for _ in range(5):
        with socket.create_connection(where, timeout=5) as channel:
            try:
                channel.sendall(b"hello")
                answers.append(channel.recv(9))
            except ConnectionError:
                answers.append(b"")
    assert answers == [b""] * 3 + [b"hello"] * 2
    listener.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(where, timeout=5)


def test_strangers_may_not_open_as_many_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 2)
    over = threading.Event()

    def serve(channel: socket.socket) -> None:
        channel.sendall(b"x")
        over.wait(5)

    server = socket.create_server(("127.0.0.1", 0))
    where = server.getsockname()
    listener = Listener(server, serve)
    channels = [socket.create_connection(where, timeout=5) for _ in range(3)]
    assert [channel.recv(1) for channel in channels] == [b"x", b"x", b""]
    # Who leaves makes room.
    over.set()
    assert [channel.recv(1) for channel in channels[:2]] == [b"", b""]
    with socket.create_connection(where, timeout=5) as another:
        assert another.recv(1) == b"x"
    for channel in channels:
        channel.close()
    listener.close()
