"""Trains a run: in this process, or in one process for each of its workers.

This process then starts the workers, compares what they report, and ends them together. The chief's session finalizes
the record. Where the chief dies, this process does.
"""

import json
import math
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

from samebits.core.digest import Digest
from samebits.core.errors import SamebitsError
from samebits.core.record import FAILED, INTERRUPTED, LedgerEnd, Outcome, Record, read_record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_lines
from samebits.runner.process.console import log
from samebits.runner.process.launcher_watch import end_with_parent
from samebits.runner.process.private_network import leave_networks
from samebits.runner.session import Session
from samebits.runner.workers.agreement import CHIEF, MACHINE, LineReport
from samebits.runner.workers.joining import WorkerLostError, gather, read_hosts
from samebits.runner.workers.ports import free_addresses
from samebits.runner.workers.scratch import Scratch
from samebits.runner.workers.session import WorkerSession
from samebits.runner.workers.stall import (
    DEADLOCK_SECONDS,
    STALL_SECONDS,
    StallWatch,
    activity,
    describe_deadlock,
    describe_left,
)
from samebits.runner.workers.tunnel import place_of
from samebits.runner.workers.verdict import Jury, Verdict, WorkerEnd, interruption
from samebits.runner.workers.worker import (
    MAX_MESSAGE_BYTES,
    USED,
    NodeReport,
    NoMessageError,
    Worker,
    parse_message,
)

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_SECONDS = 5.0  # for the chief to finalize its record: less than launcher and watcher grant
_EXIT_SECONDS = 1.0  # for its process to end after that
_POLL_SECONDS = 0.2
_NOTHING: Mapping[str, str] = MappingProxyType({})


def train(folder: RunDir, record: Record, data: Path | None, redacted: Mapping[str, str] = _NOTHING) -> int:
    """Train until the record is finalized; returns the exit status. It returns in each worker's process, too."""
    if record.recipe.world_size == 1:
        return Session(folder, record, data, redacted).run()
    return Coordinator(folder, record, data, redacted).run()


class Coordinator:
    """The process that starts the workers of one run."""

    def __init__(self, folder: RunDir, record: Record, data: Path | None, redacted: Mapping[str, str]) -> None:
        self._folder, self._record, self._data, self._redacted = folder, record, data, redacted
        self._workers = record.recipe.world_size
        self._scratch = Scratch(folder)
        self._jury = Jury(self._workers)
        self._pids: dict[int, int] = {}
        self._channels: dict[int, socket.socket] = {}
        self._received: dict[int, bytes] = {}
        self._used: dict[int, float] = {}
        self._last = dict.fromkeys(range(self._workers), "before its first line")
        self._signal: int | None = None
        self._chief_status: int | None = None
        self._finalized: float | None = None

    def run(self) -> int:
        """Start the workers and wait for their end; returns the run's exit status, in a worker the worker's."""
        self._scratch.make(self._workers)
        try:
            addresses = self._gather()
        except (SamebitsError, KeyboardInterrupt) as error:
            return self._without_workers(error)
        # No signal may arrive between the workers' starts.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        for index in [index for index in range(self._workers) if index not in self._channels]:
            if (worker := self._started(index, addresses)) is not None:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
                return self._session(worker).run()
        for number in _STOPPING:
            signal.signal(number, self._note_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        try:
            return self._end(self._watch())
        finally:
            self._kill_workers()
            self._scratch.remove()

    def _gather(self) -> list[str]:
        """The addresses of all workers; those on other nodes have connected. Raises SamebitsError."""
        hosts = read_hosts(self._folder)
        if not hosts:
            # Other users of the machine could reach the workers' servers, which obey any client.
            leave_networks()
            return free_addresses(self._workers)
        place = place_of(self._folder, CHIEF, hosts)
        joined = gather(self._folder, hosts, place.own, at=place.meeting)
        for index, channel in joined.channels.items():
            self._channels[index], self._received[index] = channel, b""
        return joined.addresses

    def _without_workers(self, error: BaseException) -> int:
        """The end of a run whose workers cannot start."""
        verdict = interruption(signal.SIGINT)
        if isinstance(error, SamebitsError):
            log(str(error))
            state = INTERRUPTED if isinstance(error, WorkerLostError) else FAILED
            verdict = Verdict(problem=str(error), state=state)
        self._scratch.remove()
        _finalize(self._folder, Outcome(state=verdict.state, message=verdict.problem))
        return verdict.status

    def _started(self, index: int, addresses: list[str]) -> Worker | None:
        """Start a worker's process, in which it is returned."""
        here, there = socket.socketpair()
        parent = os.getpid()
        if pid := os.fork():
            there.close()
            self._pids[index], self._channels[index], self._received[index] = pid, here, b""
            return None
        end_with_parent(parent)
        here.close()
        for channel in self._channels.values():
            channel.close()
        return Worker(index=index, addresses=addresses, channel=there)

    def _session(self, worker: Worker) -> WorkerSession:
        """The session of a worker, in its process."""
        folder = self._folder
        if not worker.is_chief:
            folder = self._scratch.enter(worker.index)
        return WorkerSession(folder, self._record, self._data, self._redacted, worker=worker)

    def _note_signal(self, number: int, _frame: object) -> None:
        self._signal = self._signal or number

    def _watch(self) -> Verdict:
        """Listen to the workers until the verdict."""
        left, all_of_them = StallWatch(STALL_SECONDS), StallWatch(DEADLOCK_SECONDS)
        with selectors.DefaultSelector() as selector:
            for index, channel in self._channels.items():
                selector.register(channel, selectors.EVENT_READ, index)
            while self._signal is None:
                for key, _ in selector.select(_POLL_SECONDS):
                    if not self._read(key.data):
                        selector.unregister(key.fileobj)
                        self._lost(key.data)
                self._look_for_dead()
                self._used |= {index: activity(pid) for index, pid in self._pids.items()}
                running = {index: used for index, used in self._used.items() if index not in self._jury.ended}
                if self._jury.ended and left.stalled(running, None):
                    self._jury.blame(describe_left(running))
                if all_of_them.stalled(running, tuple(self._last.values())):
                    self._jury.blame(describe_deadlock(self._last))
                if (verdict := self._jury.verdict(time.monotonic())) is not None:
                    return verdict
        return interruption(self._signal)

    def _read(self, index: int) -> bool:
        """Take what a worker sent; returns whether more may come."""
        try:
            part = self._channels[index].recv(1 << 16)
        except OSError:  # the node of this worker is gone
            return False
        *lines, self._received[index] = (self._received[index] + part).split(b"\n")
        for line in lines:
            self._hear(index, line)
        if len(self._received[index]) > MAX_MESSAGE_BYTES:
            self._jury.blame(f"worker {index} sent a message without end")
            return False
        return bool(part)

    def _hear(self, index: int, line: bytes) -> None:
        # The script shares the worker's process, and may write into its channel.
        try:
            self._take(index, parse_message(line))
        except NoMessageError:
            self._jury.blame(f"worker {index} sent what is no message of samebits; the script writes into its channel")

    def _take(self, index: int, found: LineReport | WorkerEnd | NodeReport) -> None:
        if isinstance(found, LineReport):
            if found.line != MACHINE:
                self._last[index] = f"after {found.where}"
            self._jury.report(index, found)
        elif isinstance(found, WorkerEnd):
            self._jury.end(index, found, time.monotonic())
        elif found.kind == USED:
            self._used[index] = found.value
        else:
            self._jury.died(index, int(found.value))

    def _lost(self, index: int) -> None:
        """A connection was closed. Of a process of this machine, its status tells more."""
        if index not in self._pids and index != CHIEF:
            self._jury.lost(index)

    def _look_for_dead(self) -> None:
        for index, pid in self._pids.items():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                self._jury.died(index, code)
                self._forget(index, code)
                return

    def _forget(self, index: int, code: int) -> None:
        self._pids.pop(index)
        if index == CHIEF:
            self._chief_status = code

    def _end(self, verdict: Verdict) -> int:
        """End all workers, the chief last, with a finalized record; returns the exit status."""
        deadline = math.inf if verdict.problem is None else time.monotonic() + _GRACE_SECONDS
        messages = [] if verdict.worker is None else self._scratch.last_lines(verdict.worker)
        if verdict.problem is not None:
            if CHIEF in self._pids and CHIEF not in self._jury.ended:
                os.kill(self._pids[CHIEF], signal.SIGINT if self._signal == signal.SIGINT else signal.SIGTERM)
            # What the chief waits for ends with the others. In a good end they wait themselves, and serve its cluster.
            self._kill_workers(but=CHIEF)
        # The chief finalizes its record after the verdict: no file of a worker is in the manifest but its checkpoints.
        self._scratch.remove(checkpoints=self._jury.finished or not self._record.retention.writes)
        with suppress(OSError):  # it is gone
            self._channels[CHIEF].sendall(json.dumps(asdict(verdict)).encode() + b"\n")
        self._wait_for_chief(deadline)
        if verdict.problem is not None and self._signal is None:
            # Last: what the chief's script printed meanwhile is only a consequence.
            for line in messages:
                print(f"worker {verdict.worker}: {line}", file=sys.stderr)
            log(verdict.problem)
        return self._status(verdict)

    def _wait_for_chief(self, deadline: float) -> None:
        """Wait for the chief's end, which finalizes its record, and kill it at the deadline."""
        while CHIEF in self._pids:
            done, status = os.waitpid(self._pids[CHIEF], os.WNOHANG)
            if done:
                self._forget(CHIEF, os.waitstatus_to_exitcode(status))
            elif time.monotonic() > deadline:
                self._kill_workers()
            else:
                time.sleep(0.02)
                # In a good end it serves the others' cluster until they are gone.
                deadline = deadline if deadline == math.inf else min(deadline, self._end_of_record())

    def _end_of_record(self) -> float:
        """When a chief is killed that has finalized its record: its libraries may wait for workers that are gone."""
        if self._finalized is None and read_record(self._folder.record).finalized:
            self._finalized = time.monotonic()
        return math.inf if self._finalized is None else self._finalized + _EXIT_SECONDS

    def _status(self, verdict: Verdict) -> int:
        """The exit status; finalizes the record where the chief could not."""
        if not read_record(self._folder.record).finalized:
            message = verdict.problem or "worker 0 ended before it could finalize its record"
            _finalize(self._folder, Outcome(state=verdict.state, message=message))
            return verdict.status
        return verdict.status if self._chief_status is None or self._chief_status < 0 else self._chief_status

    def _kill_workers(self, but: int | None = None) -> None:
        # Their own nodes end the others.
        for index in [index for index in self._channels if index not in self._pids and index != CHIEF]:
            self._channels.pop(index).close()
        for index in [index for index in self._pids if index != but]:
            with suppress(ProcessLookupError):
                os.kill(self._pids[index], signal.SIGKILL)
            self._forget(index, os.waitstatus_to_exitcode(os.waitpid(self._pids[index], 0)[1]))


def _finalize(folder: RunDir, outcome: Outcome) -> None:
    """Finalize the record of a chief that could not."""
    record = read_record(folder.record)
    lines: list[bytes] = []
    with suppress(OSError):  # the script may have put something else in its place
        lines = [line for line in plain_lines(folder.ledger) if line.endswith(b"\n")]
    last = Digest.of_bytes(lines[-1].rstrip(b"\n")) if lines else record.recipe.digest
    end = LedgerEnd(lines=len(lines), last=str(last))
    folder.finalize(replace(record, outcome=outcome, ledger=end))
