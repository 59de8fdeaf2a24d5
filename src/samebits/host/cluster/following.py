"""Follow a job: print what it prints, and how its state changes, until it is over."""

import sys
import time
from typing import BinaryIO

from samebits.host.cluster.job_dir import JobDir
from samebits.host.cluster.states import LOST, JobState, state_of
from samebits.host.console import log

POLL_SECONDS = 0.5
_LAST_WORDS_SECONDS = 5.0  # that a file of another machine may take to appear on a shared file system


def follow(folder: JobDir, out: BinaryIO | None = None) -> JobState:
    """Print the job's output until it is over; returns its last state."""
    job, shown, done = folder.read(), "", 0
    waits_until = 0.0
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
        time.sleep(POLL_SECONDS)


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
