"""Follow a job: print what it prints, and how its state changes, until it is over."""

import os
import sys
import time
from dataclasses import dataclass, field
from typing import BinaryIO

from samebits.core.errors import RecordError
from samebits.core.run_files import open_plain
from samebits.host.cluster.job_dir import JobDir
from samebits.host.cluster.states import LOST, JobState, state_of
from samebits.host.console import log
from samebits.host.rerun.script_output import OutputFilter

POLL_SECONDS = 0.5
_LAST_WORDS_SECONDS = 5.0  # that a file of another machine may take to appear on a shared file system
_MOST_BYTES = 4 << 20  # of what was printed before: a file of holes is as large as its author likes
_READ_BYTES = 1 << 20


def follow(folder: JobDir, out: BinaryIO | None = None) -> JobState:
    """Print the job's output until it is over; returns its last state."""
    job, shown, output = folder.read(), "", _Output(folder, out or sys.stdout.buffer)
    waits_until = 0.0
    while True:
        state = state_of(folder, job)
        output.show()
        if str(state) != shown:
            shown = str(state)
            log(f"{folder.path.name}: {shown}")
        if state.over:
            waits_until = waits_until or time.monotonic() + _LAST_WORDS_SECONDS
            if state.kind != LOST or time.monotonic() > waits_until:
                output.show(final=True)
                return state
        time.sleep(POLL_SECONDS)


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
