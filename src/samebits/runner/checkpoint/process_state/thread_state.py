"""Variables of threads that the script started: no attribute leads to them, and no checkpoint can restore them."""

import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from samebits.runner.compat import cpython_private

_OWN = frozenset(vars(threading.Thread()))
"""What every thread holds itself."""


def held_by_threads(code: str) -> Iterator[tuple[str, Any]]:
    """Each variable of the script's functions in such a thread, and each attribute of the thread, by its name.

    `code` is the folder of the script. Threads that a library starts are left out, also those that call the script,
    such as the workers of a PyDataset. Of the main thread, the variables are captured elsewhere.
    """
    main = threading.main_thread()
    yield from ((f"{name} of the main thread", value) for name, value in _own_attributes(main).items())
    innermost = cpython_private.frames_of_threads()
    for thread in threading.enumerate():  # the oldest first, so that numbers of equal names stay
        frames = list(_frames_of(innermost.get(thread.ident or 0)))
        if thread is main or not frames or not frames[0].f_code.co_filename.startswith(f"{code}/"):
            continue
        held = [frame.f_locals for frame in frames if frame.f_code.co_filename.startswith(f"{code}/")]
        held.append(_own_attributes(thread))
        for index, names in enumerate(held):
            place = f"in the thread {thread.name}" + (f", call {index}" if index else "")
            yield from ((f"{name} {place}", value) for name, value in list(names.items()) if value is not thread)


def _own_attributes(thread: threading.Thread) -> dict[str, Any]:
    """What a script set on a thread. A change of its name shows in those of its variables."""
    return {name: value for name, value in vars(thread).items() if name not in _OWN}


def _frames_of(innermost: FrameType | None) -> Iterator[FrameType]:
    """The frames of a thread, the outermost first, without those of `threading`."""
    frames: list[FrameType] = []
    frame = innermost
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return (item for item in reversed(frames) if item.f_code.co_filename != threading.__file__)
