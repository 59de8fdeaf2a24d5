"""Workers on other nodes: they connect to the process that started the run, which they find by a file in its folder.

`hosts.json`, which the launcher writes, has the address of each worker's node. `join.json` has a port and a secret.
"""

import json
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.connections import MOST, REQUEST_SECONDS, notice_loss, read_line
from samebits.core.errors import InputError
from samebits.core.jsonio import canonical_json, write_atomically
from samebits.core.run_dir import RunDir
from samebits.runner.workers.agreement import CHIEF
from samebits.runner.workers.arrivals import Arrival, Arrivals

JOIN_SECONDS = 600.0
"""What other nodes get to start, and to import TensorFlow. While one hashes the data or gets the image, more."""

_POLL_SECONDS = 0.2


def read_hosts(folder: RunDir) -> tuple[str, ...]:
    """The address of each worker's node; empty where all are processes of this machine."""
    try:
        return tuple(json.loads(folder.worker_hosts.read_bytes()))
    except FileNotFoundError:
        return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """The connections of the workers on other nodes, by index, and the addresses at which all workers train."""

    channels: dict[int, socket.socket]
    addresses: list[str]


def gather(
    folder: RunDir,
    hosts: Sequence[str],
    own: str,
    limit: float = JOIN_SECONDS,
    *,
    at: tuple[str, int] | None = None,
) -> Joined:
    """Wait until every other worker has connected; raises InputError where one cannot, is gone, or comes too late.

    `at` is where they find this process: host and port. Without it that is the first of the hosts, and any free port.
    """
    host, port = at or (hosts[CHIEF], 0)
    secret, workers = secrets.token_hex(32), len(hosts)
    patience = _Patience(folder, workers, limit)
    with socket.create_server(("", port), backlog=MOST) as server, ExitStack() as failed:
        meeting = {"host": host, "port": server.getsockname()[1], "secret": secret}
        write_atomically(folder.worker_meeting, canonical_json(meeting), mode=0o600)
        arrivals = Arrivals(server, secret, workers)
        failed.callback(arrivals.close)
        while len(arrivals.joined) < workers - 1:
            _check_failed(folder, workers)
            missing = next(index for index in range(1, workers) if index not in arrivals.joined)
            if patience.is_over():
                where = f"{hosts[missing]} within {limit:.0f} s"
                raise InputError(f"worker {missing} of {workers} did not start on {where}")
            if (gone := arrivals.wait(_POLL_SECONDS)) is not None:
                raise WorkerLostError(f"worker {gone} of {workers} was lost before worker {missing} had joined")
        joined = arrivals.joined
        addresses = [own, *(joined[index].address for index in range(1, workers))]
        _send_addresses(joined, addresses)
        failed.pop_all()
    arrivals.turn_strangers_away()
    return Joined(channels={index: found.channel for index, found in joined.items()}, addresses=addresses)


def _send_addresses(joined: Mapping[int, Arrival], addresses: Sequence[str]) -> None:
    """Send each worker the addresses of all; raises WorkerLostError."""
    for index, found in joined.items():
        try:
            found.channel.sendall(json.dumps(addresses).encode() + b"\n")
        except OSError as error:
            raise WorkerLostError(f"worker {index} of {len(addresses)} was lost as soon as it had joined") from error


class _Patience:
    """How long the chief waits: for a limit since a node was last heard of that still prepares."""

    def __init__(self, folder: RunDir, workers: int, limit: float) -> None:
        self._signs = [folder.of_worker(index).preparing for index in range(1, workers)]
        self._limit, self._since, self._seen = limit, time.monotonic(), b""

    def is_over(self) -> bool:
        """Whether nothing was heard for too long."""
        seen = b"".join(path.read_bytes() for path in self._signs if path.exists())
        if seen != self._seen:
            self._since, self._seen = time.monotonic(), seen
        return time.monotonic() - self._since > self._limit


class WorkerLostError(InputError):
    """A worker is gone before it has joined: another attempt may have all of them."""


def _check_failed(folder: RunDir, workers: int) -> None:
    """Raise InputError with what a node reported that cannot begin, WorkerLostError where a worker is gone."""
    for index in range(1, workers):
        worker = folder.of_worker(index)
        if worker.failure.exists():
            raise InputError(f"worker {index} of {workers} cannot start: {_text(worker.failure)}")
        if worker.lost.exists():
            raise WorkerLostError(f"worker {index} of {workers} was lost before it joined: {_text(worker.lost)}")


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace").strip()


def join(folder: RunDir, index: int, address: str, limit: float = JOIN_SECONDS) -> tuple[socket.socket, list[str]]:
    """Connect to the process that started the run; returns the connection and all addresses. Raises InputError."""
    deadline = time.monotonic() + limit
    while (where := _meeting(folder.worker_meeting)) is None:
        if time.monotonic() > deadline:
            raise InputError(f"the chief of {folder.path.name} did not start within {limit:.0f} s")
        time.sleep(_POLL_SECONDS)
    try:
        channel = socket.create_connection((where["host"], where["port"]), timeout=REQUEST_SECONDS)
        request = {"secret": where["secret"], "worker": index, "address": address}
        channel.sendall(json.dumps(request).encode() + b"\n")
        # However long another node hashes: a chief that is gone ends the connection.
        notice_loss(channel)
        addresses = json.loads(read_line(channel))
    except (OSError, ValueError) as error:
        raise InputError(f"the chief at {where['host']}:{where['port']} does not answer: {error}") from error
    return channel, list(addresses)


def _meeting(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
