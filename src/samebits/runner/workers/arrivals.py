"""Who connects to the chief before the run begins: workers, and strangers, who keep nobody waiting."""

import hmac
import json
import selectors
import socket
import time
from dataclasses import dataclass

from samebits.core.connections import MAX_LINE, MOST, REQUEST_SECONDS, notice_loss
from samebits.runner.workers.agreement import CHIEF


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A worker that knows the secret: where it trains, and its connection."""

    address: str
    channel: socket.socket


@dataclass(slots=True)
class _Stranger:
    """Somebody who has not said yet who it is, and until when it may."""

    until: float
    said: bytes = b""


class Arrivals:
    """The workers that have connected to a server, by index. One thread, as this process forks later."""

    def __init__(self, server: socket.socket, secret: str, workers: int) -> None:
        self.joined: dict[int, Arrival] = {}
        self._server, self._secret, self._workers = server, secret, workers
        self._strangers: dict[socket.socket, _Stranger] = {}
        self._selector = selectors.DefaultSelector()
        server.settimeout(0)
        self._selector.register(server, selectors.EVENT_READ)

    def wait(self, seconds: float) -> int | None:
        """Take what comes within some time; returns the index of a worker that had joined, and is gone."""
        for key, _ in self._selector.select(seconds):
            channel: socket.socket = key.fileobj  # type: ignore[assignment]  # only sockets are registered
            if channel is self._server:
                self._accept()
            elif channel in self._strangers:
                self._hear(channel)
            else:
                # A worker says nothing before it knows all addresses. So this is its end.
                return next(index for index, found in self.joined.items() if found.channel is channel)
        for channel in [one for one, stranger in self._strangers.items() if time.monotonic() > stranger.until]:
            self._turn_away(channel)
        return None

    def turn_strangers_away(self) -> None:
        """Listen to nobody any more; the workers' connections stay."""
        for channel in list(self._strangers):
            self._turn_away(channel)
        self._selector.close()

    def close(self) -> None:
        """End all connections: the run does not begin."""
        self.turn_strangers_away()
        for found in self.joined.values():
            found.channel.close()

    def _accept(self) -> None:
        try:
            channel, _ = self._server.accept()
        except OSError:  # it is gone already
            return
        if len(self._strangers) >= MOST:
            channel.close()
            return
        channel.settimeout(0)
        self._strangers[channel] = _Stranger(until=time.monotonic() + REQUEST_SECONDS)
        self._selector.register(channel, selectors.EVENT_READ)

    def _hear(self, channel: socket.socket) -> None:
        stranger = self._strangers[channel]
        try:
            part = channel.recv(MAX_LINE)
        except OSError:
            part = b""
        stranger.said += part
        if part and not part.endswith(b"\n") and len(stranger.said) <= MAX_LINE:
            return
        found = self._worker(stranger.said)
        if found is None or found[0] in self.joined:
            self._turn_away(channel)
            return
        del self._strangers[channel]
        index, address = found
        notice_loss(channel)
        self.joined[index] = Arrival(address=address, channel=channel)

    def _worker(self, said: bytes) -> tuple[int, str] | None:
        """The index and the address that a worker gives; None for anybody else."""
        try:
            found = json.loads(said)
            known = hmac.compare_digest(str(found["secret"]), self._secret)
            index, address = int(found["worker"]), str(found["address"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        return (index, address) if known and CHIEF < index < self._workers else None

    def _turn_away(self, channel: socket.socket) -> None:
        del self._strangers[channel]
        self._selector.unregister(channel)
        channel.close()
