"""Several workers: what they must agree on, and how a run of them ends."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.connections import read_line
from samebits.core.errors import EXIT_ERROR, EXIT_SCRIPT_FAILED, InputError
from samebits.core.record import FAILED, FINISHED, INTERRUPTED, RUNNING, Outcome, Record, read_record, write_record
from samebits.core.run_dir import RunDir
from samebits.runner.workers.agreement import MACHINE, SAME, Agreement, LineReport
from samebits.runner.workers.joining import WorkerLostError, gather, join
from samebits.runner.workers.ports import free_addresses
from samebits.runner.workers.scratch import Scratch
from samebits.runner.workers.stall import (
    DEADLOCK_SECONDS,
    STALL_SECONDS,
    StallWatch,
    activity,
    describe_deadlock,
    describe_left,
    processor_seconds,
)
from samebits.runner.workers.training import train
from samebits.runner.workers.verdict import WAIT_SECONDS, Jury, Verdict, WorkerEnd
from samebits.runner.workers.worker import NoMessageError, Worker, parse_message

_TOGETHER = WorkerEnd(state=FINISHED, strategies=1, shared=True)


def _line(number: int = 1, *, place: str = "fit 0, epoch 0", **tensors: str) -> LineReport:
    return _trained(tensors, number, place)


def _trained(tensors: Mapping[str, str], number: int = 1, place: str = "fit 0, epoch 0") -> LineReport:
    return LineReport(line=number, place=place, tensors=tuple(tensors.items()))


def _failed(message: str) -> WorkerEnd:
    return WorkerEnd(state=FAILED, message=message)


def test_equal_lines_agree_in_any_order_of_arrival() -> None:
    agreement = Agreement(3)
    for worker in (2, 2, 0, 1, 0, 1):
        assert agreement.add(worker, _line(kernel="a", bias="b")) is None
    assert agreement.missing() is None


def test_the_first_tensor_that_differs_is_named() -> None:
    agreement = Agreement(3)
    assert agreement.add(0, _line(2, a="1", b="2", c="3")) is None
    assert agreement.add(1, _line(2, a="1", b="2", c="3")) is None
    found = agreement.add(2, _line(2, a="1", b="X", c="Y"))
    assert found == (
        "worker 2 disagrees with worker 0 at line 2 of the ledger (fit 0, epoch 0): b is the first to differ"
    )


@pytest.mark.parametrize(
    ("chiefs", "others", "what"),
    [
        ({"a": "1", "b": "2"}, {"a": "1"}, "worker 1 trains 1 variable, and worker 0 b"),
        ({"a": "1"}, {"b": "1"}, "worker 1 trains b, and worker 0 a"),
        ({}, {"a": "1"}, "worker 1 trains a, and worker 0 a model outside of the strategy's scope"),
        ({"a": "1"}, {}, "worker 1 trains a model outside of the strategy's scope, and worker 0 a"),
    ],
)
def test_workers_that_train_different_models_do_not_just_disagree(
    chiefs: dict[str, str], others: dict[str, str], what: str
) -> None:
    agreement = Agreement(2)
    agreement.add(1, _trained(others))
    assert agreement.add(0, _trained(chiefs)) == f"at line 1 of the ledger (fit 0, epoch 0) {what}; {SAME}"


def test_another_line_is_a_difference() -> None:
    agreement = Agreement(2)
    agreement.add(0, _line(2, place="fit 0, epoch 1"))
    assert agreement.add(1, _line(2, place="the end of m")) == (
        "worker 1 is at line 2 of the ledger (the end of m) where worker 0 is at line 2 of the ledger (fit 0, epoch 1);"
        f" {SAME}"
    )


@pytest.mark.parametrize(("has", "lacks"), [(0, 1), (1, 0)])
def test_a_line_that_one_worker_does_not_have(has: int, lacks: int) -> None:
    agreement = Agreement(2)
    agreement.add(has, _line(3))
    assert agreement.missing() == (
        f"worker {has} has line 3 of the ledger (fit 0, epoch 0), and worker {lacks} does not; {SAME}"
    )


def test_a_good_end_waits_for_all() -> None:
    jury = Jury(2)
    jury.end(1, _TOGETHER, 0.0)
    assert jury.verdict(1e6) is None
    jury.end(0, _TOGETHER, 1e6)
    assert jury.verdict(1e6) == Verdict()


def test_a_disagreement_ends_the_run_at_once() -> None:
    jury = Jury(2)
    jury.report(0, _line(a="1"))
    jury.report(1, _line(a="2"))
    verdict = jury.verdict(0.0)
    assert verdict is not None
    assert (verdict.state, verdict.status) == (FAILED, EXIT_ERROR)
    assert "a is the first to differ" in str(verdict.problem)


def test_a_line_that_is_missing_at_the_end_fails_the_run() -> None:
    jury = Jury(2)
    jury.report(0, _line())
    for worker in (0, 1):
        jury.end(worker, _TOGETHER, 0.0)
    assert "and worker 1 does not" in str(jury.verdict(0.0))


@pytest.mark.parametrize(
    ("status", "state", "how"),
    [
        (-9, INTERRUPTED, "was killed by SIGKILL (by the system because memory ran out, or by someone)"),
        (-15, INTERRUPTED, "was killed by SIGTERM"),
        (-11, FAILED, "was killed by SIGSEGV"),
        (0, FAILED, "ended with status 0 before the others"),
        (7, FAILED, "ended with status 7 before the others"),
    ],
)
def test_a_worker_that_dies_is_named(status: int, state: str, how: str) -> None:
    jury = Jury(3)
    jury.died(2, status)
    verdict = jury.verdict(0.0)
    assert verdict is not None
    assert verdict.problem == f"worker 2 of 3 {how}; the run needs all of its workers"
    assert (verdict.state, verdict.status) == (state, EXIT_ERROR)


def test_the_death_behind_the_error_of_another_worker_is_the_reason() -> None:
    """Whoever waits for the dead one may report its error first."""
    jury = Jury(2)
    jury.end(0, _failed("the script failed: UnavailableError"), 0.0)
    assert jury.verdict(WAIT_SECONDS / 2) is None
    jury.died(1, -9)
    assert "worker 1 of 2 was killed" in str(jury.verdict(WAIT_SECONDS / 2))


def test_the_first_error_is_the_reason() -> None:
    jury = Jury(2)
    jury.end(1, _failed("the script failed: ValueError: no"), 0.0)
    jury.end(0, _failed("the script failed: UnavailableError"), 0.5)
    verdict = jury.verdict(0.5)
    assert verdict is not None
    assert verdict.problem == "worker 1 of 2: the script failed: ValueError: no"
    assert (verdict.status, verdict.worker) == (EXIT_SCRIPT_FAILED, 1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_same_error_in_all_workers_is_the_chiefs_own(order: tuple[int, int]) -> None:
    jury = Jury(2)
    for worker in order:
        jury.end(worker, _failed("the script failed: ValueError: no"), 0.0)
    assert jury.verdict(0.0) == Verdict()


def test_an_error_of_the_chief_does_not_wait_for_workers_that_hang() -> None:
    jury = Jury(2)
    jury.end(0, _failed("the script failed: ValueError: no"), 0.0)
    assert jury.verdict(WAIT_SECONDS) == Verdict()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (WorkerEnd(state=FINISHED), "the script makes no MultiWorkerMirroredStrategy"),
        (WorkerEnd(state=FINISHED, strategies=1), "what it trains was not made in the scope of its strategy"),
    ],
)
def test_workers_that_trained_alone_are_no_run_of_several(end: WorkerEnd, reason: str) -> None:
    jury = Jury(2)
    for worker in (0, 1):
        jury.end(worker, end, 0.0)
    verdict = jury.verdict(0.0)
    assert verdict is not None
    cure = "make the model in its scope, or drop --workers"
    assert verdict.problem == f"each of the 2 workers trained alone, and the same: {reason}; {cure}"


def test_what_a_worker_sends_is_read_as_it_was() -> None:
    here, there = socket.socketpair()
    worker = Worker(index=1, addresses=["127.0.0.1:1", "127.0.0.1:2"], channel=there)
    worker.report(2, "fit 0, epoch 1", [("kernel", "sha256:1")])
    here.sendall(json.dumps({"problem": "no", "state": FAILED, "status": 2, "worker": 1}).encode() + b"\n")
    worker.strategies = 1
    assert worker.conclude(Outcome(state=FINISHED)) == Verdict(problem="no", worker=1)
    with here.makefile("rb") as lines:
        assert parse_message(lines.readline()) == _line(2, place="fit 0, epoch 1", kernel="sha256:1")
        assert parse_message(lines.readline()) == _TOGETHER
    here.close()
    # Nobody is there any more: no good end.
    there.close()


def test_a_worker_without_an_answer_has_not_finished() -> None:
    here, there = socket.socketpair()
    here.shutdown(socket.SHUT_WR)
    assert Worker(index=0, addresses=[], channel=there).conclude(Outcome(state=FINISHED)).problem is not None
    here.close()
    there.close()


def test_the_cluster_is_what_tensorflow_reads() -> None:
    here, there = socket.socketpair()
    cluster = json.loads(Worker(index=1, addresses=["127.0.0.1:1", "127.0.0.1:2"], channel=there).cluster)
    assert cluster == {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 1}}
    here.close()
    there.close()


def test_ports_are_free_and_differ() -> None:
    addresses = free_addresses(20)
    assert len(set(addresses)) == 20
    for address in addresses:
        host, port = address.split(":")
        with socket.socket() as listening:
            listening.bind((host, int(port)))


def test_workers_that_wait_for_one_that_has_ended() -> None:
    now = 0.0
    watch = StallWatch(STALL_SECONDS, lambda: now)
    assert not watch.stalled({1: 0.0}, None)
    now = STALL_SECONDS
    assert not watch.stalled({1: 30.0}, None)
    now = 2 * STALL_SECONDS
    assert watch.stalled({1: 30.5}, None)
    assert "worker 1 waited 60 s for others" in describe_left({1: 30.5})
    # Another one has ended since: the clock begins anew.
    now = 3 * STALL_SECONDS
    assert not watch.stalled({2: 0.0}, None)


def test_workers_that_wait_for_each_other() -> None:
    now = 0.0
    watch = StallWatch(DEADLOCK_SECONDS, lambda: now)
    assert not watch.stalled({0: 5.0, 1: 5.0}, 1)
    now = DEADLOCK_SECONDS - 1
    # A line of the ledger is progress, and the clock begins anew.
    assert not watch.stalled({0: 5.0, 1: 5.0}, 2)
    now = 2 * DEADLOCK_SECONDS - 2
    assert not watch.stalled({0: 5.0, 1: 5.0}, 2)
    now += 1
    assert watch.stalled({0: 6.0, 1: 5.0}, 2)
    last = {0: f"after {_line(2).where}", 1: "before its first line"}
    assert describe_deadlock(last) == (
        "no worker computed anything for 600 s (worker 0 after line 2 of the ledger (fit 0, epoch 0); worker 1 before"
        " its first line); all must train the same steps"
    )


def test_reading_files_counts_as_work(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    before = activity(os.getpid()) - processor_seconds(os.getpid())
    large.read_bytes()
    assert activity(os.getpid()) - processor_seconds(os.getpid()) >= before + 9
    assert activity(2**22 + 1) == 0


@pytest.fixture
def meeting(tmp_path: Path) -> RunDir:
    folder = RunDir(tmp_path)
    folder.workers.mkdir()
    return folder


def test_workers_of_other_nodes_join(meeting: RunDir) -> None:
    with ThreadPoolExecutor(3) as pool:
        gathered = pool.submit(gather, meeting, ["127.0.0.1"] * 3, "chief:1", 20)
        workers = [pool.submit(join, meeting, index, f"node:{index}", 20) for index in (2, 1)]
        addresses = ["chief:1", "node:1", "node:2"]
        assert gathered.result().addresses == addresses
        assert [worker.result()[1] for worker in workers] == [addresses] * 2
    for index, channel in gathered.result().channels.items():
        for end in (channel, workers[2 - index].result()[0]):
            # A node without power closes nothing, and is lost all the same. TensorFlow notices within 10 s.
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            silent, idle, interval, count = (
                end.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_USER_TIMEOUT,
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                )
            )
            assert (silent, idle + interval * count) == (5_000, 5)
        workers[2 - index].result()[0].sendall(str(index).encode())
        assert channel.recv(9) == str(index).encode()
        channel.close()
        workers[2 - index].result()[0].close()


def test_a_stranger_who_sends_slowly_keeps_nobody_waiting() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"x")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            read_line(here, began + 0.05)
        assert time.monotonic() - began < 5


def test_who_does_not_know_the_secret_does_not_join(meeting: RunDir) -> None:
    with ThreadPoolExecutor(1) as pool:
        gathered = pool.submit(gather, meeting, ["127.0.0.1"] * 2, "chief:1", 2)
        while not meeting.worker_meeting.exists():
            pass
        where = json.loads(meeting.worker_meeting.read_bytes())
        assert meeting.worker_meeting.stat().st_mode & 0o077 == 0
        requests: tuple[object, ...] = (
            {"secret": "no", "worker": 1, "address": "a"},
            {"worker": 1},
            [],
            {**where, "worker": 2},
            {"secret": "no", "worker": float("inf"), "address": "a"},
        )
        for request in requests:
            with socket.create_connection((where["host"], where["port"])) as channel:
                channel.sendall(json.dumps(request).encode() + b"\n")
                assert channel.recv(1) == b""
        with socket.create_connection((where["host"], where["port"])) as channel:
            channel.sendall(b"[" * 60_000 + b"\n")
            assert channel.recv(1) == b""
        with pytest.raises(InputError, match=r"^worker 1 of 2 did not start on 127.0.0.1 within 2 s$"):
            gathered.result()


def test_a_node_that_cannot_begin_is_reported(meeting: RunDir) -> None:
    failure = meeting.of_worker(1).failure
    failure.write_text("the node n2 makes another recipe\n")
    with pytest.raises(InputError, match=r"^worker 1 of 2 cannot start: the node n2 makes another recipe$"):
        gather(meeting, ["127.0.0.1"] * 2, "chief:1", 20)


def test_a_worker_that_is_gone_before_it_joins(meeting: RunDir, example: Record) -> None:
    """Nobody waits for it, and the run is interrupted: another attempt may have all workers."""
    meeting.of_worker(1).lost.write_text("its pod is gone\n")
    reason = "worker 1 of 2 was lost before it joined: its pod is gone"
    with pytest.raises(WorkerLostError, match=f"^{reason}$"):
        gather(meeting, ["127.0.0.1"] * 2, "chief:1", 20)
    meeting.worker_hosts.write_text('["127.0.0.1", "127.0.0.1"]')
    running = replace(example, recipe=replace(example.recipe, world_size=2), outcome=Outcome(state=RUNNING))
    running = replace(running, result=None, files=None)
    write_record(meeting.record, running)
    assert train(meeting, running, None) == EXIT_ERROR
    outcome = read_record(meeting.record).outcome
    assert (outcome.state, outcome.message) == (INTERRUPTED, reason)


def test_machines_that_compute_otherwise_are_named() -> None:
    """Before the first step, by the first operation that differs. No such report is a line of the ledger."""
    ends = []
    for number in ("1", "2"):
        here, there = socket.socketpair()
        with here, there:
            worker = Worker(index=int(number), addresses=[], channel=there)
            worker.report_machine({"tanh": number, "matmul": "0"})
            assert not worker.shared
            ends.append(parse_message(here.makefile("rb").readline()))
    jury = Jury(2)
    for index, report in enumerate(ends):
        assert isinstance(report, LineReport)
        jury.report(index, report)
    verdict = jury.verdict(0.0)
    assert verdict is not None
    assert verdict.state == FAILED
    assert verdict.problem == (
        "worker 1 disagrees with worker 0 at the fingerprint of its machine: tanh is the first to differ"
    )


def test_a_machine_with_other_operations() -> None:
    one, two = (LineReport(line=MACHINE, place="x", tensors=((name, "1"),)) for name in ("tanh", "matmul"))
    assert one.difference(1, two) == "worker 1 computed other operations than worker 0 for x"


def test_a_worker_that_never_trained_has_no_fingerprint() -> None:
    agreement = Agreement(2)
    agreement.add(0, LineReport(line=MACHINE, place="the fingerprint of its machine", tensors=()))
    assert agreement.missing() is None


def test_a_lost_connection_interrupts_the_run() -> None:
    jury = Jury(2)
    jury.lost(1)
    verdict = jury.verdict(0.0)
    assert verdict is not None
    assert verdict.state == INTERRUPTED
    assert verdict.problem == "the connection to worker 1 of 2 was lost; the run needs all of its workers"


def test_processor_time_is_read() -> None:
    assert processor_seconds(os.getpid()) > 0
    assert processor_seconds(2**22 + 1) == 0


def test_a_worker_writes_beside_the_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.code.mkdir()
    run.record.write_text("{}")
    scratch = Scratch(run)
    scratch.make(3)
    program = (
        "import os, sys; from pathlib import Path; from samebits.core.run_dir import RunDir;"
        " from samebits.runner.workers.scratch import Scratch;"
        f" folder = Scratch(RunDir(Path({str(tmp_path)!r}))).enter(2); print('out'); print('err', file=sys.stderr);"
        " import tempfile; Path(tempfile.gettempdir(), 'x').touch(); Path(Path.home(), 'y').touch();"
        " (folder.outputs / 'z').touch()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert scratch.last_lines(2) == ["err"]
    assert sorted(path.name for path in (scratch.folder(2).path / "home").iterdir()) == ["x", "y"]
    assert scratch.folder(2).code.resolve() == run.code.resolve()
    scratch.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "code", "record.json"]
    assert sorted(path.name for path in (run.checkpoints.folder / "workers").iterdir()) == ["1", "2"]
    scratch.remove(checkpoints=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "record.json"]


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"x", b"[]", b"{}", b"[1, 2, 3]", b'["end", null]', b'["end", {}]', b'["line", {"line": 1}]'),
        b'["line", {"line": 1, "place": "x", "tensors": [["a"]]}]',
        b'["line", {"line": 1, "place": "x", "tensors": [[[], {}]]}]',
        b'["end", {"state": 1, "strategies": 1, "shared": true}]',
        *(b"[" * 100_000, b"\xff", b"NaN"),
    ],
)
def test_what_is_no_message(text: bytes) -> None:
    """The script shares the worker's process: its writing into the channel ends the run with one line."""
    with pytest.raises(NoMessageError):
        parse_message(text)


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_no_other_file_is_read_as_messages(tmp_path: Path, kind: str) -> None:
    run = RunDir(tmp_path / "run")
    (run.workers / "1").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    if kind == "pipe":
        os.mkfifo(run.workers / "1" / "stderr.txt")
    else:
        (run.workers / "1" / "stderr.txt").symlink_to(tmp_path / "secret")
    assert Scratch(run).last_lines(1) == []
