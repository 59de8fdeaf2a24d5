"""Follow a job: print what it prints, and how its state changes, until it is over."""

import sys
import time
from typing import BinaryIO

from samebits.core.errors import EXIT_ERROR
from samebits.host.cluster.job_dir import Job, JobDir, JobEnd
from samebits.host.cluster.schedulers import scheduler_of, state_of
from samebits.host.cluster.states import LOST, QUEUED, JobState, ended
from samebits.host.console import log

POLL_SECONDS = 0.5
HOPELESS_SECONDS = 60.0  # that a job may wait for what is not there, before it is given up
_LAST_WORDS_SECONDS = 5.0  # that a file of another machine may take to appear on a shared file system


def follow(folder: JobDir, out: BinaryIO | None = None) -> JobState:
    """Print the job's output until it is over; returns its last state."""
    job, shown, done = folder.read(), "", 0
    waits_until = hopeless_since = 0.0
    while True:
        state = state_of(folder, job)
        done = _copy(folder, done, out or sys.stdout.buffer)
        if str(state) != shown:
            shown = str(state)
            log(f"{folder.path.name}: {shown}")
        if state.over:
            waits_until = waits_until or time.monotonic() + _LAST_WORDS_SECONDS
            if state.kind != LOST or time.monotonic() > waits_until:
                _copy(folder, done, out or sys.stdout.buffer)
                return state
        hopeless = state.hopeless and state.kind == QUEUED
        hopeless_since = (hopeless_since or time.monotonic()) if hopeless else 0.0
        if hopeless and time.monotonic() - hopeless_since > HOPELESS_SECONDS:
            return _give_up(folder, job, state)
        time.sleep(POLL_SECONDS)


def _give_up(folder: JobDir, job: Job, state: JobState) -> JobState:
    """End a job that has never started, and would wait for good."""
    end = JobEnd(status=EXIT_ERROR, message=f"it cannot start, and was given up: {state.detail}")
    # First: whatever starts meanwhile finds the end.
    folder.write_end(end)
    scheduler_of(job).cancel(folder, job)
    log(f"{folder.path.name}: {ended(end)}")
    return ended(end)


def _copy(folder: JobDir, done: int, out: BinaryIO) -> int:
    """Copy what the log holds beyond `done` bytes; returns its size."""
    try:
        with folder.log.open("rb") as file:
            file.seek(done)
            text = file.read()
    except FileNotFoundError:
        return done
    out.write(text)
    out.flush()
    return done + len(text)
