"""Execute one batch of segments again; and a pool of processes on this machine to do so in parallel."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from samebits.core.errors import Terminated
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import open_plain
from samebits.core.run_setup import PlannedRun
from samebits.host.launch.runtime import Runtime, in_recorded_venv, was_in_container
from samebits.host.launch.train import execute_silently
from samebits.host.subprocesses import FINALIZE_SECONDS

LEDGER_POLL_SECONDS = 0.5
KILL_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentJob:
    """A planned run that resumes `run`, in a folder of runs of its own. It can be pickled."""

    run: Path
    planned: PlannedRun
    offline: bool = False
    trusted: tuple[str, ...] = ()


def run_job(job: SegmentJob) -> Path:
    """Train a batch silently with the recorded software; returns the folder of the new run.

    Called in a main thread, it stops the run at the first line that diverges. Raises SamebitsError if it cannot train.
    """
    run = RunDir(job.run)
    watch = _DivergenceWatch(recorded=run.ledger, runs=job.planned.spec.runs)
    try:
        with stoppable() as can_stop, ExitStack() as quiet:
            runtime = _recorded_runtime(run, run.read(), job)
            # Only a process of its own may be stopped and silenced; a thread shares both with others.
            if can_stop:
                quiet.enter_context(redirect_stderr(quiet.enter_context(open(os.devnull, "w", encoding="utf-8"))))
                watch.begin()
            try:
                return execute_silently(job.planned, runtime).path
            finally:
                watch.end()
    except Terminated:
        # Any other SIGTERM was meant for this process.
        if not watch.diverged or watch.folder is None:
            raise
        return watch.folder


def _recorded_runtime(run: RunDir, record: Record, job: SegmentJob) -> Runtime:
    """The recorded software; the preflight has checked before that it is available."""
    if not was_in_container(record):
        return in_recorded_venv(run, record, job.trusted)
    # Imported here: a run in a virtual environment needs no engine.
    from samebits.host.rerun.recorded_image import provide_image

    return provide_image(run, record, offline=job.offline, trusted=job.trusted).runtime


@dataclass(slots=True)
class _DivergenceWatch:
    """Follows the ledger of the one run in `runs` while it grows; stops the run if it diverges from `recorded`."""

    recorded: Path
    runs: Path
    diverged: bool = False
    folder: Path | None = None
    _same: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start watching: from here on, this process may get SIGTERM."""
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop watching, and with it the signals."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _poll(self) -> None:
        while not self._over.wait(LEDGER_POLL_SECONDS):
            if self._has_diverged():
                self.diverged = True
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _has_diverged(self) -> bool:
        """Whether a whole line differs; earlier polls have compared the first `_same` bytes."""
        # The folder's name is not known before the run begins.
        ledger = next(self.runs.glob("*/ledger.jsonl"), None)
        if ledger is None:
            return False
        self.folder = ledger.parent
        with open_plain(ledger) as ours, open_plain(self.recorded) as theirs:
            ours.seek(self._same)
            theirs.seek(self._same)
            for line in ours:
                # The last line may still be in the middle of being written.
                if not line.endswith(b"\n"):
                    return False
                if theirs.readline() != line:
                    return True
                self._same += len(line)
        return False


@contextmanager
def stoppable() -> Iterator[bool]:
    """Let SIGTERM stop the training; yields whether it can, as only a main thread handles signals."""
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    before = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield True
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise_terminated(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def in_processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """An executor of processes on this machine; an error in the body stops what they are doing."""
    context = multiprocessing.get_context("spawn")  # no copies of our threads and open files
    pool = ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=_begin_worker)
    try:
        yield pool
        pool.shutdown(cancel_futures=True)
    except BaseException:
        # A further signal ends a step at whatever instruction it arrives, also the first; then the next one begins.
        try:
            _let_finalize(pool)
        finally:
            try:
                _end_soon()
            finally:
                _kill()
        raise


def _let_finalize(pool: ProcessPoolExecutor) -> None:
    """End what the processes do, and give them time to finalize records."""
    workers = multiprocessing.active_children()
    # The executor would wait for trainings that nobody needs any more.
    _terminate(workers)
    pool.shutdown(wait=False, cancel_futures=True)
    _join(workers, FINALIZE_SECONDS + KILL_SECONDS)


def _end_soon() -> None:
    """Give processes that still run time to remove a container, and no more."""
    workers = multiprocessing.active_children()
    _terminate(workers)
    _join(workers, KILL_SECONDS)


def _kill() -> None:
    """End the processes for sure: a thread of the executor waits for them, and the interpreter for that thread."""
    for process in multiprocessing.active_children():
        process.kill()


def _terminate(workers: Sequence[BaseProcess]) -> None:
    for process in workers:
        process.terminate()


def _join(workers: Sequence[BaseProcess], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for process in workers:
        process.join(max(0.0, deadline - time.monotonic()))


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, as it reaches every process of a terminal; and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    # A parent that was killed cannot stop its workers, so each watches for that itself.
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
