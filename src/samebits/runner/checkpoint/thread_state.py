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
    such as the workers of a PyDataset.
    """
    threads = {item.ident: item for item in threading.enumerate() if item is not threading.main_thread()}
    for number, frame in cpython_private.frames_of_threads().items():
        thread, frames = threads.get(number), list(_frames_of(frame))
        if thread is None or not frames or not frames[0].f_code.co_filename.startswith(f"{code}/"):
            continue
        held = [frame.f_locals for frame in frames if frame.f_code.co_filename.startswith(f"{code}/")]
        held.append({name: value for name, value in vars(thread).items() if name not in _OWN})
        for index, names in enumerate(held):
            place = f"in the thread {thread.name}" + (f", call {index}" if index else "")
            yield from ((f"{name} {place}", value) for name, value in list(names.items()) if value is not thread)


def _frames_of(innermost: FrameType) -> Iterator[FrameType]:
    """The frames of a thread, the outermost first, without those of `threading`."""
    frames: list[FrameType] = []
    frame: FrameType | None = innermost
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return (item for item in reversed(frames) if item.f_code.co_filename != threading.__file__)
