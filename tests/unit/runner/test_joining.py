"""Workers of other nodes that join: strangers delay nobody, and who is gone before all have joined is missed."""

import json
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import InputError
from samebits.core.run_dir import RunDir
from samebits.runner.workers import arrivals
from samebits.runner.workers.joining import Joined, WorkerLostError, gather, join


@pytest.fixture
def meeting(tmp_path: Path) -> RunDir:
    folder = RunDir(tmp_path)
    folder.workers.mkdir()
    return folder


def join_in(pool: ThreadPoolExecutor, meeting: RunDir, index: int, limit: float = 20) -> Future[Any]:
    return pool.submit(join, meeting, index, f"node:{index}", limit)


def close(joined: Joined, *workers: tuple[socket.socket, list[str]]) -> None:
    for channel in (*joined.channels.values(), *(channel for channel, _ in workers)):
        channel.close()


def where_of(meeting: RunDir) -> tuple[str, int]:
    while not meeting.worker_meeting.exists():
        time.sleep(0.01)
    found = json.loads(meeting.worker_meeting.read_bytes())
    return found["host"], found["port"]


def test_strangers_keep_no_worker_waiting(meeting: RunDir) -> None:
    """Each gets ten seconds to say who it is, at the same time."""
    with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        gathered = pool.submit(gather, meeting, ["127.0.0.1"] * 2, "chief:1", 20)
        where = where_of(meeting)
        strangers = [stack.enter_context(socket.create_connection(where)) for _ in range(5)]
        strangers[0].sendall(b'{"secret": ')
        began = time.monotonic()
        worker = join_in(pool, meeting, 1)
        assert gathered.result().addresses == ["chief:1", "node:1"]
        assert time.monotonic() - began < 5
        assert worker.result()[1] == ["chief:1", "node:1"]
        close(gathered.result(), worker.result())
        for stranger in strangers:
            with suppress(ConnectionResetError):
                assert stranger.recv(1) == b""


def test_a_stranger_is_not_listened_to_for_ever(meeting: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(arrivals, "MOST", 2)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        gathered = pool.submit(gather, meeting, ["127.0.0.1"] * 2, "chief:1", 1)
        where = where_of(meeting)
        for text in (b"", b"x", b"x" * 100_000, b""):
            stranger = stack.enter_context(socket.create_connection(where, timeout=5))
            with suppress(ConnectionError):
                stranger.sendall(text)
                assert stranger.recv(1) == b""
        with pytest.raises(InputError, match="did not start"):
            gathered.result()


def test_a_worker_that_joins_and_is_gone_before_the_others_have(meeting: RunDir) -> None:
    with ThreadPoolExecutor(1) as pool:
        gathered = pool.submit(gather, meeting, ["127.0.0.1"] * 3, "chief:1", 20)
        where_of(meeting)
        found = json.loads(meeting.worker_meeting.read_bytes())
        request = {"secret": found["secret"], "worker": 2, "address": "node:2"}
        with socket.create_connection((found["host"], found["port"])) as channel:
            channel.sendall(json.dumps(request).encode() + b"\n")
            # Another one of the same index is turned away.
            with socket.create_connection((found["host"], found["port"])) as second:
                second.sendall(json.dumps(request).encode() + b"\n")
                assert second.recv(1) == b""
        with pytest.raises(WorkerLostError, match=r"^worker 2 of 3 was lost before worker 1 had joined$"):
            gathered.result(timeout=5)


def test_a_node_that_hashes_for_long_is_waited_for(meeting: RunDir) -> None:
    """By the chief, and by the workers that have joined."""
    preparing = meeting.of_worker(1).preparing
    with ThreadPoolExecutor(3) as pool:
        gathered = pool.submit(gather, meeting, ["127.0.0.1"] * 3, "chief:1", 0.5)
        workers = [join_in(pool, meeting, 2, 0.5)]
        for number in range(8):
            time.sleep(0.2)
            preparing.write_text(str(number))
        workers.append(join_in(pool, meeting, 1, 0.5))
        addresses = ["chief:1", "node:1", "node:2"]
        assert gathered.result().addresses == addresses
        assert [worker.result()[1] for worker in workers] == [addresses] * 2
        close(gathered.result(), *(worker.result() for worker in workers))
