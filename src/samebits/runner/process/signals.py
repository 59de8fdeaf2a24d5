"""Ctrl-C and SIGTERM, as the script and its checkpoints meet them."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from samebits.core.errors import Terminated

STEP_WAIT_SECONDS = 5.0  # seconds that SIGTERM waits: about half of what engines and clusters grant


class Signals:
    """Ctrl-C and SIGTERM as exceptions in the script; remembered, as a script may catch them.

    Where a checkpoint can be written after the step that goes on, SIGTERM waits for that, but not for long.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._can_wait: Callable[[], bool] = lambda: False
        self._waiting = False

    def listen(self) -> None:
        """Take both over."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._arrived)

    def wait_where(self, can_wait: Callable[[], bool]) -> None:
        """SIGTERM waits where this says so, until `again` is called, or a few seconds at most."""
        self._can_wait = can_wait

    def waits(self) -> bool:
        """Whether a SIGTERM waits."""
        return self._waiting

    def again(self) -> None:
        """Raise once more what arrived, where it waited or a library swallowed it; asked at the end of every epoch."""
        if self._waiting:
            self._waiting = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if self.received is not None:
            self._raise(self.received)

    def ignore(self) -> None:
        """From here on the record is being sealed, and nothing may come between."""
        if self._waiting:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGTERM and not self._waiting and self._can_wait() and _alarm_is_free():
            self._waiting = True
            signal.signal(signal.SIGALRM, lambda *_: self.again())
            signal.setitimer(signal.ITIMER_REAL, STEP_WAIT_SECONDS)
            return
        self._raise(number)

    def _raise(self, number: int) -> NoReturn:
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _alarm_is_free() -> bool:
    """Whether the script uses no alarm of its own."""
    unused = signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, None)
    return unused and signal.getitimer(signal.ITIMER_REAL)[0] == 0
