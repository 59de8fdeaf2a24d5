"""Follow a job: print what it prints, and how its state changes, until it is over."""

import os
import sys
import time
from dataclasses import dataclass, field
from typing import BinaryIO

from samebits.core.errors import EXIT_ERROR, RecordError
from samebits.core.run_files import open_plain
from samebits.host.cluster.job_dir import Job, JobDir, JobEnd
from samebits.host.cluster.patience import Patience
from samebits.host.cluster.schedulers import scheduler_of, state_of
from samebits.host.cluster.states import LOST, QUEUED, JobState, ended
from samebits.host.console import log
from samebits.host.rerun.script_output import OutputFilter

HOPELESS_SECONDS = 60.0  # that a job may wait for what is not there, before it is given up
_LAST_WORDS_SECONDS = 5.0  # that a file of another machine may take to appear on a shared file system
_MOST_BYTES = 4 << 20  # of what was printed before: a file of holes is as large as its author likes
_READ_BYTES = 1 << 20


def follow(folder: JobDir, out: BinaryIO | None = None) -> JobState:
    """Print the job's output until it is over; returns its last state.

    Raises ToolError where the cluster does not answer at first, or not for some minutes.
    """
    job, shown, output, patience = folder.read(), "", _Output(folder, out or sys.stdout.buffer), Patience()
    state = state_of(folder, job)
    waits_until = hopeless_since = 0.0
    while True:
        output.show()
        if str(state) != shown:
            shown = str(state)
            log(f"{folder.path.name}: {shown}")
        if state.over:
            waits_until = waits_until or time.monotonic() + _LAST_WORDS_SECONDS
            if state.kind != LOST or time.monotonic() > waits_until:
                output.show(final=True)
                return state
        hopeless = state.hopeless and state.kind == QUEUED
        hopeless_since = (hopeless_since or time.monotonic()) if hopeless else 0.0
        if hopeless and time.monotonic() - hopeless_since > HOPELESS_SECONDS:
            return _give_up(folder, job, state)
        time.sleep(scheduler_of(job).POLL_SECONDS)
        with patience.around():
            state = state_of(folder, job)


def _give_up(folder: JobDir, job: Job, state: JobState) -> JobState:
    """End a job that has never started, and would wait for good."""
    end = JobEnd(status=EXIT_ERROR, message=f"it cannot start, and was given up: {state.detail}")
    # First: whatever starts meanwhile finds the end.
    folder.write_end(end)
    scheduler_of(job).cancel(folder, job)
    log(f"{folder.path.name}: {ended(end)}")
    return ended(end)


@dataclass(slots=True)
class _Output:
    """What a job printed, copied as it comes. Somebody else may have made the folder."""

    folder: JobDir
    out: BinaryIO
    _filter: OutputFilter = field(default_factory=OutputFilter)
    _done: int | None = None

    def show(self, *, final: bool = False) -> None:
        """Print what is new; raises RecordError where the log is no regular file."""
        try:
            with open_plain(self.folder.log, self.folder.path) as file:
                if self._done is None:
                    self._done = max(0, os.fstat(file.fileno()).st_size - _MOST_BYTES)
                file.seek(self._done)
                while part := file.read(_READ_BYTES):
                    self._done += len(part)
                    self.out.write(self._filter(part))
        except FileNotFoundError:  # it has printed nothing yet
            pass
        except OSError as error:
            if error.filename is None:  # it is about what is written
                raise
            raise RecordError(f"cannot read {self.folder.log}: {error.strerror}") from error
        self.out.write(self._filter(b"", final=final))
        self.out.flush()
