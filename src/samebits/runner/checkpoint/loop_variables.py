"""Refuses loops that carry a value from one iteration to the next which was not passed to `samebits.checkpoint`."""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from samebits.runner.checkpoint.capture import StateCapture, StateWalker
from samebits.runner.checkpoint.encoding import UncapturableError
from samebits.runner.checkpoint.live_names import live_names
from samebits.runner.checkpoint.trace_inputs import first_difference

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

    def _now(self, *, initial: bool = False) -> Mapping[str, Any]:
        values = {name: value for frame, names in self._frames for name, value in self._bound(frame, names)}
        encoded = self._walker.capture_others(values, self._known, initial=initial).encoded
        others = [item for item in encoded["globals"] if not self._known.reaches(*item[:2])]
        return {"roots": encoded["roots"], "globals": others}

    def _bound(self, frame: types.FrameType, names: list[str]) -> Iterator[tuple[str, Any]]:
        """The names that stand for a value, and are no globals that are captured."""
        local, of_module = frame.f_locals, frame.f_globals
        for name in names:
            value = local.get(name, of_module.get(name, _MISSING))
            restored = local is of_module and self._known.reaches(of_module["__name__"], name)
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
