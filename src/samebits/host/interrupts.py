"""Ctrl-C and SIGTERM on the host: exceptions that are remembered, so that none is lost."""

import signal
import time
from types import FrameType

from samebits.core.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated

_SAME_SECONDS = 1.0
"""Within this time a second SIGTERM is the first again: `timeout` sends it to a process, and to its group."""

_received = 0
_arrived_at = 0.0


def catch_signals() -> None:
    """Raise KeyboardInterrupt at Ctrl-C and Terminated at SIGTERM, from now on."""
    # As an exception, SIGTERM unwinds like Ctrl-C: containers are removed and records finalized.
    signal.signal(signal.SIGTERM, _arrived)
    # A shell starts a command in the background with Ctrl-C ignored.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _arrived)


def raise_pending() -> None:
    """Raise again what arrived: Python drops exceptions in destructors, and libraries catch them.

    Called before a training starts: nothing else would end it.
    """
    if _received:
        _raise()


def pending_status() -> int | None:
    """The exit status for a signal that arrived; None without one."""
    if not _received:
        return None
    return EXIT_INTERRUPTED if _received == signal.SIGINT else EXIT_TERMINATED


def forget_pending() -> None:
    """At the end of a command: the next one in this process starts anew."""
    global _received  # noqa: PLW0603  a process has one set of signal handlers
    _received = 0


def end_at_signals() -> None:
    """Let a signal end this process, as it does by default: while the interpreter ends, nobody handles an exception."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _arrived:
            signal.signal(number, signal.SIG_DFL)


def _arrived(number: int, _frame: FrameType | None) -> None:
    global _received, _arrived_at
    again = number == _received == signal.SIGTERM and time.monotonic() - _arrived_at < _SAME_SECONDS
    if again:
        return
    _received, _arrived_at = number, time.monotonic()
    _raise()


def _raise() -> None:
    raise KeyboardInterrupt if _received == signal.SIGINT else Terminated
