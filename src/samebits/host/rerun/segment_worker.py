"""One stretch of a run executed again, wherever `execute` is called; and processes of this machine to call it in."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from samebits.core.errors import Terminated
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import PlannedRun
from samebits.host.launch.runtime import Runtime, in_recorded_image, in_recorded_venv
from samebits.host.launch.train import execute_silently

POLL_SECONDS = 0.5  # seconds between two looks at a ledger that is being written


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentJob:
    """What is executed: a run that resumes `run`, in a folder of runs of its own. It can be pickled."""

    run: Path
    planned: PlannedRun
    offline: bool = False


def run_job(work: SegmentJob) -> Path:
    """Train a stretch in the recorded software, without a word; returns the folder of the run that did.

    It is stopped at its first line that is not the recorded one, where this is called in a main thread. Raises
    SamebitsError where it could not be carried out.
    """
    run = RunDir(work.run)
    watch = _DivergenceWatch(recorded=run.ledger, runs=work.planned.spec.runs)
    try:
        with _terminable() as terminable, ExitStack() as quiet:
            runtime = _runtime(run, run.read(), offline=work.offline)
            if terminable:
                quiet.enter_context(redirect_stderr(quiet.enter_context(open(os.devnull, "w", encoding="utf-8"))))
                watch.begin()
            try:
                return execute_silently(work.planned, runtime).path
            finally:
                watch.end()
    except Terminated:
        if not watch.parted or watch.folder is None:
            raise
        return watch.folder


def _runtime(run: RunDir, record: Record, *, offline: bool) -> Runtime:
    """The recorded software, which was looked at before by the one who asks."""
    if record.environment.runtime != "docker":
        return in_recorded_venv(run, record)
    from samebits.host.docker import Engine
    from samebits.host.image.rebuild import provide_recorded

    engine = Engine()
    return in_recorded_image(engine, provide_recorded(engine, run, record, offline=offline), record)


@dataclass(slots=True)
class _DivergenceWatch:
    """Looks at the ledger of the one run in `runs` while it is written; ends the run where it parts from `recorded`."""

    recorded: Path
    runs: Path
    parted: bool = False
    folder: Path | None = None
    _same: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self) -> None:
        """From here on this process may be sent SIGTERM."""
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """From here on it is not."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _look_on(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            if self._parts():
                self.parted = True
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _parts(self) -> bool:
        """Whether a whole line is another one; what lies before was compared at an earlier look."""
        ledger = next(self.runs.glob("*/ledger.jsonl"), None)
        if ledger is None:
            return False
        self.folder = ledger.parent
        with ledger.open("rb") as ours, self.recorded.open("rb") as theirs:
            ours.seek(self._same)
            theirs.seek(self._same)
            for line in ours:
                if not line.endswith(b"\n"):
                    return False
                if theirs.readline() != line:
                    return True
                self._same += len(line)
        return False


@contextmanager
def _terminable() -> Iterator[bool]:
    """SIGTERM stops what is being executed, where this is a main thread; gives whether it is."""
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield True
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def in_processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """An executor of processes on this machine; what they still do when this is left by an error is stopped."""
    context = multiprocessing.get_context("spawn")  # neither threads nor open files of ours
    pool = ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=_begin_worker)
    try:
        yield pool
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Ctrl-C reaches all processes of a terminal, and the one that submits decides; a worker does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
