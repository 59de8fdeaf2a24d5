"""Notices workers that wait for ever: for one whose script has ended, or for each other."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

STALL_SECONDS = 60.0
"""What workers wait for one whose script has ended: their collective never completes."""

DEADLOCK_SECONDS = 600.0
"""What all workers may do nothing: more than a slow disk or a pause of the script takes."""

_BYTES_A_SECOND = 1e7  # read from files: as much activity as a second of a core
_BUSY = 0.05  # of a core: what TensorFlow's idle threads use is far below


class StallWatch:
    """Looks at the `activity` of workers in seconds, and at what they report. `clock` is for tests."""

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._since: tuple[float, float, object] | None = None

    def stalled(self, used: Mapping[int, float], progress: object) -> bool:
        """Whether these workers have computed nothing, and `progress` stayed the same, for as long as the limit."""
        now, total, state = self._clock(), sum(used.values()), (frozenset(used), progress)
        if self._since is None or self._since[2] != state:
            self._since = now, total, state
            return False
        before, spent, _ = self._since
        if not used or now - before < self._limit:
            return False
        self._since = now, total, state
        return total - spent <= _BUSY * (now - before) * len(used)


def activity(pid: int) -> float:
    """The processor time of a process, and what it has read, as it may wait for a slow disk."""
    return processor_seconds(pid) + _bytes_read(pid) / _BYTES_A_SECOND


def _bytes_read(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/io").read_text("utf-8", "replace").split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def processor_seconds(pid: int) -> float:
    """The processor time of a process and of its ended children; 0 if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0.0
    # The name, in parentheses, may hold anything.
    return sum(map(int, text.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")


def describe_left(running: Mapping[int, float]) -> str:
    """The end of a run whose other workers have ended."""
    names = ", ".join(f"worker {index}" for index in sorted(running))
    return f"{names} waited {STALL_SECONDS:.0f} s for others whose script had ended; all must train the same steps"


def describe_deadlock(last: Mapping[int, str]) -> str:
    """The end of a run whose workers wait for each other, with the last line of each."""
    where = "; ".join(f"worker {index} {place}" for index, place in sorted(last.items()))
    return f"no worker computed anything for {DEADLOCK_SECONDS:.0f} s ({where}); all must train the same steps"
