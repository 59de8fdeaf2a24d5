"""Private names of CPython's standard library; seen in 3.11 and 3.13."""

import ctypes
import dis
import gc
import glob
import itertools
import random
import sys
import tempfile
import types
import weakref
from collections.abc import Callable
from typing import Any

from samebits.runner.compat.patches import PatchTarget

ABC_STATE = "_abc_impl"
"""The attribute of every abstract class that holds its registry. It is not part of a script's state."""


def global_random() -> random.Random:
    """The generator behind `random.random` and the other functions of that module."""
    generator: random.Random = random._inst
    return generator


def frames_of_threads() -> dict[int, types.FrameType]:
    """The innermost frame of every thread, by the thread's number."""
    return sys._current_frames()


def finalizers() -> list[Callable[..., Any]]:
    """What `weakref.finalize` will call for objects that are still there."""
    return [info.func for info in list(weakref.finalize._registry.values())]  # type: ignore[attr-defined]


def entropy_location() -> PatchTarget:
    """The name under which `random` and `secrets` call `os.urandom`. NumPy's generators use it, too."""
    return random, "_urandom"


class TemporaryNames:
    """Names for temporary files that are the same whenever a script runs, in the place of random ones."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __iter__(self) -> "TemporaryNames":
        return self

    def __next__(self) -> str:
        return f"{next(self._numbers):08d}"


def temporary_names_location() -> PatchTarget:
    """Where `tempfile` has its source of names; it tries the next one where a file exists."""
    return tempfile, "_name_sequence"


def globbers() -> list[Any]:
    """The classes of `glob` that hold a reference to `os.scandir` for pathlib; none before Python 3.13."""
    found = (getattr(glob, name, None) for name in ("_Globber", "_StringGlobber"))
    return [globber for globber in found if hasattr(globber, "scandir")]


def replace_class_method(owner: type, name: str, function: Callable[..., Any]) -> Callable[[], None]:
    """Replace a class method of a class that is written in C, in place; returns what undoes it.

    A subclass under the same name would not do: extension modules such as those of pandas build on the class itself.
    """
    # `__dict__` is a read-only view; the dictionary behind it is the only object that it refers to.
    (namespace,) = gc.get_referents(owner.__dict__)
    original = namespace[name]

    def put(method: Any) -> None:
        namespace[name] = method
        # Forget what the interpreter has cached of the class.
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))

    put(classmethod(function))
    return lambda: put(original)


def log_format(handler: Any) -> str | None:
    """The format of a handler's records; None where it has none."""
    form: str | None = getattr(handler.formatter, "_fmt", None)
    return form


def tunnel(connection: Any) -> tuple[str, int | None] | None:
    """Host and port behind the proxy of an `http.client` connection; None without a tunnel."""
    host = getattr(connection, "_tunnel_host", None)
    return None if host is None else (host, getattr(connection, "_tunnel_port", None))


def exception_handlers(code: types.CodeType) -> list[tuple[int, int, int]]:
    """Where code that raises is continued: the first offset, the one after the last, and that of the handler."""
    entries: list[Any] = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    return [(entry.start, entry.end, entry.target) for entry in entries]


def set_layout(value: "set[Any] | frozenset[Any]") -> tuple[int, int, int]:
    """How many places of a set's table are or were in use, the size of the table, and where `pop` goes on.

    The order of a set's items, also of later ones, follows from these and from the items. Raises TypeError where a set
    lies in memory in another way than in the tested versions of Python.
    """
    words = (ctypes.c_ssize_t * 8).from_address(id(value))
    fill, used, mask, finger = words[2], words[3], words[4], words[7]
    if used != len(value) or mask & (mask + 1) or not used <= fill <= mask:
        raise TypeError("this Python stores sets in an unknown way")
    return fill, mask, finger & mask
