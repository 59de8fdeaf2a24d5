"""Ctrl-C and SIGTERM, as exceptions in the script; SIGTERM may wait for a checkpoint."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from samebits.core.errors import Terminated

STEP_WAIT_SECONDS = 5.0  # that SIGTERM waits for a step: about half of what engines and clusters grant


class Signals:
    """Turns Ctrl-C and SIGTERM into exceptions, and remembers them, as a script may catch those.

    If a checkpoint can be written after the current step, SIGTERM waits for it, for a few seconds at most.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._can_wait: Callable[[], bool] = lambda: False
        self._waiting = False

    def listen(self) -> None:
        """Handle both signals from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._arrived)

    def wait_where(self, can_wait: Callable[[], bool]) -> None:
        """Let SIGTERM wait whenever `can_wait` is true, until `reraise` is called or the time is up."""
        self._can_wait = can_wait

    def waits(self) -> bool:
        """Whether a SIGTERM is waiting."""
        return self._waiting

    def reraise(self, *, waiting: bool = True) -> None:
        """Raise the exception of a signal that waited, or that a library swallowed. Called after every epoch.

        Without `waiting`, a signal that waits goes on waiting: it has no checkpoint yet.
        """
        if not waiting:
            # Read before `_waiting`: a signal that arrives in between waits.
            received = self.received
            if received is None or self._waiting:
                return
        elif self._waiting:
            self._waiting = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if self.received is not None:
            self._raise(self.received)

    def ignore(self) -> None:
        """Ignore both signals, while the record is finalized."""
        if self._waiting:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        # A second SIGTERM ends the run at once.
        if number == signal.SIGTERM and not self._waiting and self._can_wait() and _alarm_is_free():
            # An alarm ends the wait, should the step take too long.
            self._waiting = True
            signal.signal(signal.SIGALRM, lambda *_: self.reraise())
            signal.setitimer(signal.ITIMER_REAL, STEP_WAIT_SECONDS)
            return
        self._raise(number)

    def _raise(self, number: int) -> NoReturn:
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _alarm_is_free() -> bool:
    """Whether the script uses no alarm of its own."""
    # Our own waiting uses the process's only real-time timer.
    unused = signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, None)
    return unused and signal.getitimer(signal.ITIMER_REAL)[0] == 0
