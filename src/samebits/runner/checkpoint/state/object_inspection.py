"""What an object of any class holds, as far as a checkpoint is concerned."""

import enum
import functools
import io
import os
import random
import struct
import sys
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from samebits.core.errors import shorten
from samebits.runner.checkpoint.state.capture_containers import BUILTIN_CONTAINERS
from samebits.runner.checkpoint.state.encoding import UncapturableError

T = TypeVar("T")

_POINTER = struct.calcsize("P")
_MANAGED_DICT = 1 << 4  # the interpreter keeps the attributes of such a class outside of the object

_CACHE = type(functools.cache(len))
_WEAK = (weakref.WeakKeyDictionary, weakref.WeakValueDictionary)

_PRINTING_OF_A_BAR = frozenset(
    {
        *("iterable", "leave", "fp", "ncols", "nrows", "mininterval", "maxinterval", "miniters", "dynamic_miniters"),
        *("ascii", "disable", "unit", "unit_scale", "unit_divisor", "lock_args", "delay", "gui", "dynamic_ncols"),
        *("smoothing", "_ema_dn", "_ema_dt", "_ema_miniters", "bar_format", "colour", "_time", "last_print_n"),
        *("last_print_t", "start_t", "pos", "sp", "container", "displayed", "write_bytes", "_lock"),
    }
)
"""Attributes of tqdm's own bars that say how and when they print."""


def draws_unseen(kind: type, ours: Callable[[type], bool]) -> bool:
    """Whether a PyDataset inherits from one of a library: that code is not inspected, and may draw."""
    import keras

    bases = [base for base in kind.__mro__ if issubclass(base, keras.utils.PyDataset)]
    return any(base is not keras.utils.PyDataset and not ours(base) for base in bases)


def attributes_of(value: Any) -> dict[str, Any] | None:
    """An object's attributes, including those in slots; None if it cannot have any. Of a bar, what a script sets."""
    if is_bar(value):
        return {name: item for name, item in vars(value).items() if name not in _PRINTING_OF_A_BAR}
    slots = [name for base in type(value).__mro__ for name in _slots(base) if hasattr(value, name)]
    # Objects that are implemented in C often have neither.
    if not slots and not hasattr(value, "__dict__"):
        return None
    return {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})


def is_bar(value: Any) -> bool:
    """Whether it is a bar of tqdm: a script can read its counts and texts back; the rest is how it prints."""
    counts = isinstance(getattr(value, "n", None), (int, float)) and hasattr(value, "__dict__")
    return counts and type(value).__module__.partition(".")[0] == "tqdm"


def member_attributes(member: enum.Enum) -> dict[str, Any]:
    """What a script keeps on a member of an enumeration, beside its name and value."""
    return {name: value for name, value in vars(member).items() if not (name.startswith("_") and name.endswith("_"))}


def holding_members(kind: Any) -> list[Any]:
    """The members of an enumeration on which a script keeps something."""
    return [member for member in kind if member_attributes(member)]


def _slots(base: type) -> tuple[str, ...]:
    declared = vars(base).get("__slots__", ())
    names = (declared,) if isinstance(declared, str) else tuple(declared)
    return tuple(_mangled(name, base) for name in names if name not in ("__dict__", "__weakref__"))


def _mangled(name: str, base: type) -> str:
    """The name of an attribute that a class declares as `name`: Python adds the class's to a `__private` one."""
    owner = base.__name__.lstrip("_")
    is_private = name.startswith("__") and not name.endswith("__") and owner
    return f"_{owner}{name}" if is_private else name


def has_hidden_state(kind: type) -> bool:
    """Whether a class holds more than attributes and slots, as those that are written in C and their subclasses do."""
    members = [vars(base).get(name) for base in kind.__mro__ for name in _slots(base)]
    # What takes a slot's place in the class hides it.
    slots = {id(member) for member in members if isinstance(member, types.MemberDescriptorType)}
    explained = object.__basicsize__ + _POINTER * len(slots)
    managed = bool(kind.__flags__ & _MANAGED_DICT)
    explained += _POINTER * (bool(kind.__dictoffset__) and not managed) + _POINTER * (kind.__weakrefoffset__ > 0)
    return kind.__basicsize__ > explained or bool(kind.__itemsize__)


def check_attributes_held(value: Any, where: str) -> None:
    """Raise UncapturableError for attributes beside the content of a container, array or generator of the script's own.

    `value` is an object of one of the script's classes.
    """
    import numpy as np

    attributes = getattr(value, "__dict__", {})
    # Some dicts are their own attributes. A generator of Python has one that belongs to its state.
    known = {"gauss_next", *next((vars(kind()) for kind in _WEAK if isinstance(value, kind)), ())}
    kinds = (*BUILTIN_CONTAINERS, np.ndarray, random.Random, *_WEAK)
    if not isinstance(value, kinds) or attributes is value:
        return
    beside = sorted(attributes.keys() - known)
    if beside:
        raise UncapturableError(
            f"{where} has attributes beside its content ({shorten(beside, 3)}); hold the content in an attribute, too"
        )


def is_cache(value: Any) -> bool:
    """Whether a value is a function that `functools.cache` or `functools.lru_cache` made."""
    return isinstance(value, _CACHE)


def is_open_elsewhere(file: Any, folder: Path) -> bool:
    """Whether a file is open, has a position, and does not belong to a folder."""
    if getattr(file, "closed", True) or file in (sys.stdin, sys.stdout, sys.stderr):
        return False
    name = getattr(file, "name", None)
    if not isinstance(name, (str, os.PathLike)):
        return isinstance(file, (io.BytesIO, io.StringIO)) or not isinstance(name, int) or name > 2
    return not file.writable() or not os.path.realpath(name).startswith(f"{os.path.realpath(folder)}/")


def cell_content(cell: Any) -> Any:
    """What a cell of a closure holds; None for an empty one."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def weakly(method: Callable[..., T]) -> Callable[..., T]:
    """Call a method of an object that is not kept alive by this: its own parts call it, while it is there."""
    reference = weakref.WeakMethod(method)

    def call(*words: Any) -> T:
        found = reference()
        assert found is not None  # noqa: S101
        return found(*words)

    return call
