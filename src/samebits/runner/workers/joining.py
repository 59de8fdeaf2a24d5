"""Workers on other nodes: they connect to the process that started the run, which they find by a file in its folder.

`hosts.json`, which the launcher writes, has the address of each worker's node. `join.json` has a port and a secret.
"""

import hmac
import json
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.connections import REQUEST_SECONDS, notice_loss, read_line
from samebits.core.errors import InputError
from samebits.core.jsonio import canonical_json, write_atomically
from samebits.core.run_dir import RunDir
from samebits.runner.workers.agreement import CHIEF

JOIN_SECONDS = 600.0
"""What other nodes get to hash the data and to import TensorFlow."""

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
    secret, addresses = secrets.token_hex(32), {CHIEF: own}
    channels: dict[int, socket.socket] = {}
    deadline = time.monotonic() + limit
    with socket.create_server(("", port), backlog=len(hosts)) as server:
        server.settimeout(_POLL_SECONDS)
        meeting = {"host": host, "port": server.getsockname()[1], "secret": secret}
        write_atomically(folder.worker_meeting, canonical_json(meeting), mode=0o600)
        while len(addresses) < len(hosts):
            _check_failed(folder, len(hosts))
            if time.monotonic() > deadline:
                missing = next(index for index in range(len(hosts)) if index not in addresses)
                where = f"{hosts[missing]} within {limit:.0f} s"
                raise InputError(f"worker {missing} of {len(hosts)} did not start on {where}")
            if (found := _accepted(server, secret, len(hosts))) is not None and found[0] not in addresses:
                index, addresses[index], channels[index] = found
    ordered = [addresses[index] for index in range(len(hosts))]
    for channel in channels.values():
        channel.sendall(json.dumps(ordered).encode() + b"\n")
    return Joined(channels=channels, addresses=ordered)


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


def _accepted(server: socket.socket, secret: str, workers: int) -> tuple[int, str, socket.socket] | None:
    """A worker that connected and knows the secret, with its address; None where there is none."""
    try:
        channel, _ = server.accept()
    except TimeoutError:
        return None
    try:
        # Anybody on the network may connect, and send what it likes as slowly as it likes.
        found = json.loads(read_line(channel, time.monotonic() + REQUEST_SECONDS))
        known = hmac.compare_digest(str(found["secret"]), secret)
        index, address = int(found["worker"]), str(found["address"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        known, index, address = False, CHIEF, ""
    if not known or not CHIEF < index < workers:
        channel.close()
        return None
    notice_loss(channel)
    return index, address, channel


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
        channel.settimeout(max(deadline - time.monotonic(), REQUEST_SECONDS))
        addresses = json.loads(read_line(channel))
    except (OSError, ValueError) as error:
        raise InputError(f"the chief at {where['host']}:{where['port']} does not answer: {error}") from error
    notice_loss(channel)
    return channel, list(addresses)


def _meeting(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
