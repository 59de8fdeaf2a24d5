"""The workers of a run as the pods of one Indexed Job, which meet anew for each attempt.

Index 0 is the chief. For an attempt it calls the others by a token in `workers/call.json`. Each checks the recipe and
answers with the address of its pod in `workers/INDEX.json`, which counts while its pod is there, see `attendance`. Then
the chief begins the run, and names it in its call. The workers join that, see `runner.workers.joining`, and wait for
the next call, or for the end of the job.
"""

import ipaddress
import os
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samebits.core.errors import EXIT_TERMINATED, InputError, RecordError, SamebitsError, Terminated
from samebits.core.jsonio import Fields, canonical_json, read_json, reading, storage_error, write_atomically
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.host.cluster.attendance import Attendance, Meeting, attend, is_open
from samebits.host.cluster.job_dir import JobDir
from samebits.host.cluster.worker_tasks import WorkerPlan, leave, write_hosts
from samebits.host.console import log, print_line
from samebits.host.launch.runtime import Runtime
from samebits.host.runs.attempts import run_name
from samebits.host.subprocesses import Streams

if TYPE_CHECKING:
    from samebits.host.cluster.node import Node

POLL_SECONDS = 0.5
SCRATCH = (Path("/tmp"), Path("/dev/shm"))  # noqa: S108  the pod's own, where the script can write
_CHIEF = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    """What the chief wants: answers to this token, then workers for this run. `meeting` is where it listens."""

    token: str
    meeting: Meeting
    run: str | None = None


class RollCall:
    """The chief's side of one attempt. Raises InputError in a pod that is none of an Indexed Job."""

    def __init__(self, folder: JobDir, workers: int, node: "Node") -> None:
        if node.index != _CHIEF:
            raise InputError("this pod has no index: the cluster made no Indexed Job of several workers")
        self._folder, self._workers = folder, workers
        self._own, self._others = _checked_address(node.address), dict[int, str]()
        # Called at once: the others hash code and data while this pod does.
        self._begin()

    def _begin(self) -> None:
        """Call for answers."""
        self._begun, self._token = False, secrets.token_hex(16)
        self._attendance = Attendance(self._own, self._token)
        self._call()

    def spread(self, runtime: Runtime) -> Runtime:
        """The runtime that begins a run once all workers have answered, and trains it with them."""

        def prepare() -> None:
            runtime.prepare()
            # Who has trained the run of a call answers only another one.
            if self._begun:
                self._begin()
            self._wait()

        def run(run_folder: RunDir, spec: RunConfig, streams: Streams) -> int:
            write_hosts(run_folder, [self._own, *(self._others[index] for index in sorted(self._others))])
            self._begun = True
            self._call(run_folder.path.name)
            # Once it has joined, the run notices a loss itself.
            self._attendance.on_loss(
                self._others, lambda index: leave(run_folder.of_worker(index).lost, "its pod is gone")
            )
            try:
                return runtime.run(run_folder, spec, streams)
            finally:
                self._attendance.close()

        return replace(runtime, prepare=prepare, run=run)

    def _call(self, run: str | None = None) -> None:
        try:
            self._folder.workers.mkdir(exist_ok=True)
        except OSError as error:
            raise storage_error(error, self._folder.workers) from error
        meeting = self._attendance.meeting
        values = {"token": self._token, "host": meeting.host, "port": meeting.port, "run": run}
        # Who reads the token could take the place of a worker. All pods of the job have one user.
        write_atomically(self._folder.call, canonical_json(values), mode=0o600)

    def _wait(self) -> None:
        """Wait for all answers: a cluster may lack room for a worker. Raises InputError where one cannot train."""
        others, named = range(1, self._workers), set[int]()
        while missing := [index for index in others if not self._is_here(index)]:
            if missing[0] not in named:
                named.add(missing[0])
                print_line(f"waiting for worker {missing[0]} of {self._workers}", flush=True)
            time.sleep(POLL_SECONDS)
            self._check_alone()

    def _is_here(self, index: int) -> bool:
        """Whether a worker has answered this call, and its pod is still there."""
        address = self._answer(index)
        if address is None or not self._attendance.has(index, address):
            return False
        self._others[index] = _checked_address(address)
        return True

    def _answer(self, index: int) -> str | None:
        """The address of a worker that answers this call; None where none does yet."""
        found = _read(self._folder.answer(index))
        if found is None or found.optional("token", str) != self._token:
            return None
        if (failure := found.optional("failure", str)) is not None:
            raise InputError(f"worker {index} of {self._workers} cannot start: {failure}")
        return found.get("address", str)

    def _check_alone(self) -> None:
        """End this pod where another one leads: a cluster that has lost a node may start a second chief."""
        call = _read_call(self._folder)
        if self._folder.read_end() is not None or call is None or call.token != self._token:
            log("another pod leads the workers; this one ends")
            raise Terminated


def work_in_pod(folder: JobDir, node: "Node") -> int:
    """Train as one worker of each attempt, until the job ends; returns the exit status of that."""
    index = node.index or _CHIEF
    if not _CHIEF < index < folder.read().config.workers:
        raise InputError(f"the job has no worker {index}")
    _checked_address(node.address)
    print_line(f"worker {index} of {folder.path.name} on {node.name}", flush=True)
    seat = _Seat(folder, index, node)
    try:
        while (end := folder.read_end()) is None:
            call = _read_call(folder)
            if call is not None and not seat.follow(call):
                log("an attempt left files where the next one could find them; another pod trains that")
                return EXIT_TERMINATED
            time.sleep(POLL_SECONDS)
        return end.status
    finally:
        seat.leave()


class _Seat:
    """A worker's pod: the call that it has answered last, and its connection to the chief's pod."""

    def __init__(self, folder: JobDir, index: int, node: "Node") -> None:
        self._folder, self._index, self._node = folder, index, node
        self._answered: str | None = None
        self._unreached: str | None = None
        self._plan: WorkerPlan | None = None
        self._line: socket.socket | None = None

    def follow(self, call: _Call) -> bool:
        """Do what the chief's call asks for; False where this pod must not train once more."""
        if call.run is not None:
            self._join(call.token, RunDir(self._folder.runs / call.run))
        elif call.token != self._answered or not is_open(self._line):
            if self._answered is not None and not _is_fresh():
                return False
            self._answer(call)
        return True

    def leave(self) -> None:
        """End the connection."""
        if self._line is not None:
            self._line.close()

    def _answer(self, call: _Call) -> None:
        self.leave()
        try:
            self._line = attend(call.meeting, call.token, self._index, self._node.address)
        except OSError as error:
            # A chief that is gone has left its call. The next one writes another.
            if call.token != self._unreached:
                log(f"the chief's pod at {call.meeting.host} does not answer: {error}; trying again")
            self._line, self._unreached = None, call.token
            return
        self._answered = call.token
        self._plan = _answered(self._folder, self._index, self._node, call.token)

    def _join(self, token: str, run: RunDir) -> None:
        plan, self._plan = self._plan, None
        if token == self._answered and plan is not None:
            _join(plan, run, self._index, self._node.address)


def _answered(folder: JobDir, index: int, node: "Node", token: str) -> WorkerPlan | None:
    """Answer the chief's call; None where this node would train something else, which the chief learns."""
    plan, answer = None, {"token": token, "node": node.name, "address": node.address}
    try:
        plan = WorkerPlan.of(folder, node.name)
    except SamebitsError as error:
        # The chief ends the job for it. A pod that ended first could end the chief's.
        log(str(error))
        answer["failure"] = str(error)
    write_atomically(folder.answer(index), canonical_json(answer))
    return plan


def _join(plan: WorkerPlan, run: RunDir, index: int, address: str) -> None:
    """Train a run, unless its chief expects another pod. What goes wrong is in this pod's log, and ends the run."""
    if _hosts(run)[index : index + 1] != [address]:
        log(f"the run {run.path.name} expects another pod of worker {index}")
        return
    try:
        status = plan.train(run, index)
    except SamebitsError as error:
        log(str(error))
        leave(run.of_worker(index).failure, str(error))
        return
    if status:
        # Whoever has joined already is heard of otherwise.
        leave(run.of_worker(index).failure, f"its process ended with status {status}")
    log(f"the run {run.path.name} has ended for worker {index}, with status {status}")


def _hosts(run: RunDir) -> Sequence[object]:
    """The addresses of a run's workers; nothing once it has ended."""
    try:
        found = read_json(run.worker_hosts)
    except RecordError:
        return ()
    return found if isinstance(found, list) else ()


def _read_call(folder: JobDir) -> _Call | None:
    fields = _read(folder.call)
    if fields is None:
        return None
    with reading(folder.call):
        run = None if fields.optional("run", str) is None else fields.parse("run", run_name)
        meeting = Meeting(host=fields.get("host", str), port=fields.get("port", int))
        return _Call(token=fields.get("token", str), meeting=meeting, run=run)


def _read(path: Path) -> Fields | None:
    """What another pod wrote; None where it is not there yet. Raises RecordError."""
    if not path.exists():
        return None
    value: Any = read_json(path)
    with reading(path):
        return Fields(value)


def _checked_address(text: str) -> str:
    """The IPv4 address of a pod: where the runner listens. Raises InputError for any other text."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise InputError(f"workers need pods with IPv4 addresses, and one has {text!r}") from error


def _is_fresh() -> bool:
    """Whether nothing is left where the script of the next attempt could find it."""
    return not any(path.is_dir() and os.listdir(path) for path in SCRATCH)
