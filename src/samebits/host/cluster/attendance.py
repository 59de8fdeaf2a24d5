"""Which pods of several workers are there: each keeps a connection to the chief's, from its answer to its end.

A pod that dies before it joins a run closes nothing that the run knows. So the chief's launcher notices it.
"""

import hmac
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from samebits.core.connections import MOST, REQUEST_SECONDS, Listener, notice_loss, read_line, stop

CONNECT_SECONDS = 3.0
_HERE = b"here\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Meeting:
    """Where the chief's pod listens."""

    host: str
    port: int


class Attendance:
    """The chief's side, for one call: which pods are connected, by the index of the worker and the pod's address.

    An index may have two: the pod of a node that was declared dead may go on beside the one in its place.
    """

    def __init__(self, address: str, token: str) -> None:
        self._token = token
        self._lock = threading.Lock()
        self._here: dict[tuple[int, str], socket.socket] = {}
        self._expected: dict[int, str] = {}
        self._lost: Callable[[int], object] = lambda _: None
        server = socket.create_server(("", 0), backlog=MOST)
        self.meeting = Meeting(host=address, port=server.getsockname()[1])
        self._listener = Listener(server, self._serve)

    def has(self, index: int, address: str) -> bool:
        """Whether that pod is there."""
        with self._lock:
            return (index, address) in self._here

    def on_loss(self, expected: dict[int, str], lost: Callable[[int], object]) -> None:
        """Have each worker reported whose pod is not there, or no longer."""
        with self._lock:
            self._expected, self._lost = dict(expected), lost
            missing = [index for index, address in expected.items() if (index, address) not in self._here]
        for index in missing:
            lost(index)

    def close(self) -> None:
        """End all connections; nobody is reported any more."""
        self._listener.close()
        with self._lock:
            self._lost = lambda _: None
            for channel in self._here.values():
                stop(channel)

    def _serve(self, channel: socket.socket) -> None:
        # Anybody on the network may connect.
        token, number, address = read_line(channel, time.monotonic() + REQUEST_SECONDS).decode().split()
        index = int(number)
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return
        notice_loss(channel)
        with self._lock:
            self._here[index, address] = channel
        try:
            channel.sendall(_HERE)
            # A worker sends nothing more: this is its end.
            channel.recv(1)
        finally:
            with self._lock:
                # The same pod may have connected again.
                own = self._here.get((index, address)) is channel
                if own:
                    del self._here[index, address]
                lost, expected = self._lost, self._expected.get(index) == address
            if own and expected:
                lost(index)


def attend(meeting: Meeting, token: str, index: int, address: str) -> socket.socket:
    """A worker's connection to the chief's pod, which knows it from then on. Raises OSError where nobody answers."""
    channel = socket.create_connection((meeting.host, meeting.port), timeout=CONNECT_SECONDS)
    try:
        channel.sendall(f"{token} {index} {address}\n".encode())
        # A chief that knows another call closes the connection.
        read_line(channel, time.monotonic() + REQUEST_SECONDS)
        notice_loss(channel)
    except OSError:
        channel.close()
        raise
    return channel


def is_open(line: socket.socket | None) -> bool:
    """Whether a worker's connection is there, and the chief has not ended it."""
    try:
        return line is not None and line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
