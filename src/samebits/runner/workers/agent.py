"""A worker on another node than the chief: starts its process, passes on what it reports, and ends it with the run."""

import os
import selectors
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from samebits.core.record import read_record
from samebits.core.run_dir import RunDir
from samebits.runner.process.launcher_watch import end_with_parent
from samebits.runner.workers.joining import join, read_hosts
from samebits.runner.workers.scratch import Scratch
from samebits.runner.workers.session import WorkerSession
from samebits.runner.workers.stall import activity
from samebits.runner.workers.tunnel import place_of
from samebits.runner.workers.worker import DIED, USED, Worker, message

REPORT_SECONDS = 5.0
_NOTHING: Mapping[str, str] = MappingProxyType({})


def train_on_node(folder: RunDir, index: int, data: Path | None, redacted: Mapping[str, str] = _NOTHING) -> int:
    """Train as one worker of a run that another node has begun; returns its exit status, in both processes."""
    place = place_of(folder, index, read_hosts(folder))
    chief, addresses = join(folder, index, place.own)
    here, there = socket.socketpair()
    parent = os.getpid()
    if child := os.fork():
        there.close()
        return _Relay(child, chief, here).run()
    end_with_parent(parent)
    chief.close()
    here.close()
    worker = Worker(index=index, addresses=addresses, channel=there)
    record = read_record(folder.record)
    return WorkerSession(Scratch(folder).enter(index), record, data, redacted, worker=worker).run()


class _Relay:
    """Between a worker's process and the chief's node."""

    def __init__(self, child: int, chief: socket.socket, worker: socket.socket) -> None:
        self._child, self._chief, self._worker = child, chief, worker
        self._reported = 0.0

    def run(self) -> int:
        """Pass on until the run or the worker has ended; returns the worker's exit status."""
        ends = {self._chief: self._worker, self._worker: self._chief}
        with selectors.DefaultSelector() as selector:
            for end in ends:
                selector.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(0.2):
                    source: socket.socket = key.fileobj  # type: ignore[assignment]  # only sockets are registered
                    if not _passed_on(source, ends[source]):
                        selector.unregister(source)
                        if source is self._chief:
                            return self._end()
                done, status = os.waitpid(self._child, os.WNOHANG)
                if done:
                    code = os.waitstatus_to_exitcode(status)
                    self._report(DIED, code)
                    return code if code >= 0 else 128 - code
                self._report_use()

    def _report_use(self) -> None:
        if time.monotonic() - self._reported > REPORT_SECONDS:
            self._reported = time.monotonic()
            self._report(USED, activity(self._child))

    def _report(self, kind: str, value: float) -> None:
        with suppress(OSError):
            self._chief.sendall(message(kind, {"value": value}))

    def _end(self) -> int:
        """The chief's node has ended the run, or is gone."""
        with suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        return 0


def _passed_on(source: socket.socket, target: socket.socket) -> bool:
    """Copy what has come; False at its end."""
    try:
        part = source.recv(1 << 16)
        if part:
            target.sendall(part)
    except OSError:
        return False
    return bool(part)
