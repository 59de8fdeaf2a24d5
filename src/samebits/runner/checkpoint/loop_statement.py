"""Refuses other code than a `for` statement around `samebits.checkpoint`: what counts or collects there begins again.

A resumed run iterates over what is left. `enumerate` would count from 0, and a comprehension miss what it had.
"""

import dis
import gc
import inspect
import types
from collections.abc import Iterator

from samebits.runner.checkpoint.state.encoding import UncapturableError

_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>")
_CURE = "iterate by a for statement over what it returns, and pass a counter in a list"


def check_statement(frames: list[types.FrameType]) -> None:
    """Raise UncapturableError unless `for` iterates in the script's `frames`, over what the inner ones yield.

    They are `loop_frames`. It is called by the generator that they iterate over.
    """
    if not frames or not all(map(_is_statement, frames)):
        raise UncapturableError(f"samebits.checkpoint is iterated by other code than a for statement; {_CURE}")
    name = next(_between(_generators(frames[-1])), None)
    if name is not None:
        raise UncapturableError(f"samebits.checkpoint is iterated by {name}, which begins again; {_CURE}")


def _is_statement(frame: types.FrameType) -> bool:
    """Whether a frame executes a `for` statement now; or the part of a generator that hands on what it gets."""
    # Of an instruction that Python has specialized, `f_lasti` may be the place of its cache.
    done = [item for item in dis.get_instructions(frame.f_code) if item.offset <= frame.f_lasti]
    current, *before = [item for item in reversed(done) if item.opcode != dis.EXTENDED_ARG]
    if frame.f_code.co_flags & inspect.CO_GENERATOR and current.opname == "SEND":
        return True
    previous = f"{before[0].opname} {before[0].argval}"
    # A comprehension makes its list in between, or in a function of its own.
    begins = previous.startswith("GET_ITER") or previous.endswith(" .0")
    return current.opname == "FOR_ITER" and begins and frame.f_code.co_name not in _COMPREHENSIONS


def _generators(last: types.FrameType) -> list[types.GeneratorType]:  # type: ignore[type-arg]
    """The generators that run now, up to a frame."""
    frame, running = inspect.currentframe(), []
    while frame is not None and frame is not last:
        running.append(frame)
        frame = frame.f_back
    generators = [item for item in gc.get_objects() if type(item) is types.GeneratorType]
    return [item for item in generators if any(item.gi_frame is frame for frame in running)]


def _between(generators: list[types.GeneratorType]) -> Iterator[str]:  # type: ignore[type-arg]
    """The names of the types of iterators written in C that iterate over these."""
    holders = gc.get_referrers(*generators)
    # `zip` and `map` hold a tuple.
    tuples = [item for item in holders if type(item) is tuple]
    for item in [*holders, *(gc.get_referrers(*tuples) if tuples else ())]:
        if type(item) is not types.GeneratorType and hasattr(type(item), "__next__"):
            yield type(item).__name__
