"""Refuses loops that carry a value from one iteration to the next which was not passed to `samebits.checkpoint`."""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from samebits.runner.checkpoint.state.capture import StateCapture
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.checkpoint.state.live_names import live_names
from samebits.runner.checkpoint.state.object_places import first_numbers, restored_in_place
from samebits.runner.checkpoint.state.state_changes import first_difference
from samebits.runner.checkpoint.state.state_walker import StateWalker

_MISSING = object()


class LoopVariables:
    """The values of a loop's variables that later code may read, as they were when it began.

    A resumed run gets them again as the script makes them before the loop. What was passed is `known`.
    """

    def __init__(self, frames: list[types.FrameType], walker: StateWalker, known: StateCapture) -> None:
        self._walker = walker
        self._known = known
        # A copy of all weights.
        known.contents.clear()
        self._in_place = restored_in_place(known.encoded)
        self._passed: Mapping[int, tuple[Any, str]] = {}
        self._frames = [(frame, live_names(frame)) for frame in frames]
        self._initial = self._now(initial=True)

    def check(self) -> None:
        """Raise UncapturableError if one of them has changed."""
        where = first_difference(self._initial, self._now())
        if where is not None:
            raise UncapturableError(
                f"{where} changes in a samebits.checkpoint loop but was not passed to it; pass it, too (a number: in a"
                " list or an object)"
            )

    def check_places(self, captured: StateCapture) -> None:
        """Raise UncapturableError if one of them holds a passed object whose state would be restored into another."""
        first = first_numbers(self._known.encoded, captured.encoded)
        for number, (value, where) in self._passed.items():
            now = captured.number_of(value)
            if number in self._in_place and (now is None or first.get(now) != number):
                raise UncapturableError(
                    f"{where} moves or is left out, in a samebits.checkpoint loop, in what was passed to it; pass it"
                    " itself, before what holds it"
                )

    def _now(self, *, initial: bool = False) -> Mapping[str, Any]:
        values = {name: value for frame, names in self._frames for name, value in self._bound(frame, names)}
        captured = self._walker.capture_others(values, self._known.number_of, initial=initial)
        encoded, self._passed = captured.encoded, captured.skipped
        others = [item for item in encoded["globals"] if not self._known.reaches(*item[:2])]
        return {"roots": encoded["roots"], "globals": others}

    def _bound(self, frame: types.FrameType, names: list[str]) -> Iterator[tuple[str, Any]]:
        """The names that stand for a value, and are no globals that are captured."""
        local, of_module = frame.f_locals, frame.f_globals
        for name in names:
            value = local.get(name, of_module.get(name, _MISSING))
            of_globals = local is of_module or name not in local
            restored = of_globals and self._known.reaches(of_module["__name__"], name)
            if value is not _MISSING and not restored and not isinstance(value, types.ModuleType):
                yield name, value


def loop_frames(is_ours: Callable[[str], bool]) -> list[types.FrameType]:
    """The innermost frame of the script that iterates now, and that which iterates over it if it is a generator."""
    frame = inspect.currentframe()
    while frame is not None and not is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    found = []
    while frame is not None:
        if is_ours(frame.f_globals.get("__name__", "")):
            found.append(frame)
            if not frame.f_code.co_flags & inspect.CO_GENERATOR:
                break
        frame = frame.f_back
    return found
