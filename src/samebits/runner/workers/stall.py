"""Notices workers that wait for one whose script has ended: their collective never completes."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

STALL_SECONDS = 60.0
_BUSY = 0.05  # of a core: what TensorFlow's idle threads use is far below


class StallWatch:
    """Looks at the processor time of the workers that are left. `clock` and `used` are for tests."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, used: "Callable[[int], float] | None" = None
    ) -> None:
        self._clock, self._used = clock, used or processor_seconds
        self._since: tuple[float, float, frozenset[int]] | None = None

    def stalled(self, running: Mapping[int, int]) -> str | None:
        """Which workers, of those that run, by their processes, have computed nothing for a minute; None if none."""
        now = self._clock()
        if self._since is None or self._since[2] != frozenset(running):
            self._since = now, self._total(running), frozenset(running)
            return None
        before, used, _ = self._since
        if not running or now - before < STALL_SECONDS:
            return None
        total = self._total(running)
        self._since = now, total, frozenset(running)
        if total - used > _BUSY * (now - before) * len(running):
            return None
        names = ", ".join(f"worker {index}" for index in sorted(running))
        return f"{names} waited {STALL_SECONDS:.0f} s for others whose script had ended; all must train the same steps"

    def _total(self, running: Mapping[int, int]) -> float:
        return sum(map(self._used, running.values()))


def processor_seconds(pid: int) -> float:
    """The processor time of a process and of its ended children; 0 if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0.0
    # The name, in parentheses, may hold anything.
    return sum(map(int, text.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")
