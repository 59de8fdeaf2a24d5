"""The lanes: `fast` needs neither TensorFlow nor an engine, `test` leaves the long tail out, `all` is everything.

Marks follow from the fixtures that a test uses. So do the groups of tests that run on one worker (see `schedule`): what
shares the engine, as it makes, removes and counts what the engine holds, or the cluster, whose nodes use it, and what
shares a costly fixture of a module.
"""

import signal
from collections.abc import Container, Iterable
from typing import Any

import pytest

LANES = ("fast", "test", "all")
_LEFT_OUT = {
    "fast": ("locked", "engine", "slow", "emulated", "browser"),
    "test": ("slow", "emulated", "browser"),
    "all": (),
}
_BY_FIXTURE = {"browser": "browser", "engine": "engine", "locked": "locked", "emulator": "emulated"}


def long_tail(values: Iterable[Any], keep: Container[Any]) -> list[Any]:
    """Parameters of which only those to `keep` are in the usual lane; all the others are marked `slow`."""
    return [value if value in keep else pytest.param(value, marks=pytest.mark.slow) for value in values]


def restore_interrupts() -> None:
    """Have Ctrl-C work for what tests start: a shell has SIGINT ignored in what it starts in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def mark(item: pytest.Item) -> None:
    """Add the markers that follow from the fixtures of a test."""
    for fixture in getattr(item, "fixturenames", ()):
        if fixture in _BY_FIXTURE:
            item.add_marker(_BY_FIXTURE[fixture])


def group_of(item: pytest.Item) -> str | None:
    """`engine`, or a fixture with its parameter that lives longer than a test and is defined in the test's module."""
    if item.get_closest_marker("engine") or "slurm" in getattr(item, "fixturenames", ()):
        return "engine"
    module = item.nodeid.partition("::")[0]
    info = getattr(item, "_fixtureinfo", None)
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    for name, defined in sorted(info.name2fixturedefs.items()) if info else ():
        if defined[-1].scope != "function" and defined[-1].baseid == module:
            return f"{module}:{name}:{parameters.get(name, '')}"
    return None


def left_out(item: pytest.Item, lane: str, expression: str) -> bool:
    """Whether a test is not in a lane; a GPU, and what a marker expression names, is for those who ask for it."""
    out = [*_LEFT_OUT[lane], "gpu"]
    return any(item.get_closest_marker(name) and name not in expression for name in out)
