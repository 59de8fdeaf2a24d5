"""A SIGTERM that waits for a checkpoint goes on waiting until there is one, at whatever instruction it arrives."""

import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from samebits.core.errors import Terminated
from samebits.runner.process.signals import Signals


@pytest.fixture
def signals() -> Iterator[Signals]:
    """They wait: a checkpoint can be written."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    # The limit of a test is an alarm, and a script with one of its own has nothing that waits.
    limit, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    found = Signals()
    found.listen()
    found.wait_where(lambda: True)
    yield found
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.setitimer(signal.ITIMER_REAL, limit)


def arriving_at(number: int, call: Callable[[], Any]) -> bool:
    """Call with a SIGTERM that arrives at this instruction of `reraise`, by number; False if it has fewer."""
    left = number

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code is not Signals.reraise.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == -1:
                sys.settrace(None)
                signal.raise_signal(signal.SIGTERM)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return left < 0


def test_a_signal_that_arrives_where_nothing_was_saved_waits(signals: Signals) -> None:
    number = 0
    while arriving_at(number, lambda: signals.reraise(waiting=False)):
        assert signals.waits(), number
        with pytest.raises(Terminated):
            signals.reraise()
        signals.received = None
        number += 1
    assert number > 5


def test_a_signal_that_arrives_after_a_checkpoint_is_never_lost(signals: Signals) -> None:
    """It ends the run at once, or waits for the next checkpoint."""
    number, arrives = 0, True
    while arrives:
        ended = False
        try:
            arrives = arriving_at(number, signals.reraise)
        except Terminated:
            ended = True
        if arrives:
            assert ended or signals.waits(), number
            with pytest.raises(Terminated):
                signals.reraise()
        signals.received = None
        number += 1
    assert number > 5


def test_a_signal_that_a_library_swallowed_is_raised_where_nothing_was_saved(signals: Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signals.reraise(waiting=False)
