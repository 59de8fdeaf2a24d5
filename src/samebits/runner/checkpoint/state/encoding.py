"""The format of saved state: JSON and bytes, and the names by which it refers to objects and paths."""

import base64
import enum
import functools
import io
import os
import re
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.runner.checkpoint.state.array_layout import with_strides
from samebits.runner.checkpoint.state.plain_values import float_text
from samebits.runner.digests.tensors import strings_of

Encoded = Any
"""JSON: None, bool, int and str stand for themselves; all else is an object whose first key names its kind.

An object that may be referred to more than once has a number under `#`. Later references are `{"again": number}`.
"""

SYMBOLIC: Mapping[str, Any] = {"constant": "symbolic tensor"}
"""A tensor of a graph, which has no values. The resumed run gets another one when it traces the graph again."""
TRACED = "{} is changed while a graph is traced; a resumed run may trace it with the other value; use a variable"
EMPTY: Mapping[str, Any] = {"constant": "empty"}
PLAIN = (bool, int, str, type(None))
REPLACEABLE = ("array", "list", "dict", "deque", "set")
"""Kinds of object that are restored in place, and can also be made anew."""
NEW, WAS = "new", "was"
"""Marks of an object in the place of another one: it is made anew, or it was at this place when training began."""
PART = "part"
"""Where the memory of a new array lies that is a part of another one's."""
ORDER = "order"
"""The order of an object's attributes, or how a set lies in memory, where a new one would have another."""
_BESIDE = frozenset({"#", NEW, WAS, PART, ORDER, "class", "misses"})
_NAMED = frozenset(
    {
        "numpy:ufunc",
        "tensorflow.python.framework.dtypes:DType",
        "tensorflow.python.framework.tensor_shape:TensorShape",
    }
)
"""Classes of immutable objects that are named by their `repr`, although they could have attributes."""
_WITHOUT_REPR = (io.IOBase, types.BuiltinFunctionType, types.MethodWrapperType)
"""Types named without their `repr`, which contains addresses or file names."""

_LIBRARIES = ("__main__", "keras", "numpy", "tensorflow")
"""Packages whose functions an object may have received during training, as Keras's callbacks do."""

_LONGEST_PATH = 4096
_BEFORE = r"(?:(?<![^\s\"'`<>()\[\]{},;:|=\0])|(?<=://))"
_BEHIND = r"(?![^/\n\"'`<>()\[\]{},;:|=\0])"
"""What may stand beside a path in a text. No space after it: a name may continue after one."""


class UncapturableError(Exception):
    """State cannot be captured or restored. The message says which state, and what to change in the script."""


class PathMap:
    """Replaces paths that differ between runs, such as the run's folder, by marks in saved text."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._marks: list[tuple[str, str]] = []
        self._paths: list[tuple[str, re.Pattern[str]]] = []
        self.add({name: str(path) for name, path in folders.items()})

    def add(self, texts: Mapping[str, str]) -> None:
        """Replace more texts that differ between runs, by name."""
        marks = [(f"\0{name}\0", text) for name, text in texts.items()]
        self._marks += marks
        # Whole components only: /data2 and /x/data do not lie in /data.
        self._paths += [(mark, re.compile(_BEFORE + re.escape(text) + _BEHIND)) for mark, text in marks]

    def folder(self, name: str) -> Path:
        """The folder of this name in this run."""
        return next(Path(path) for mark, path in self._marks if mark == f"\0{name}\0")

    def leave(self, text: str) -> Encoded:
        """Replace paths by marks, for saving."""
        marked = functools.reduce(lambda found, known: known[1].sub(known[0], found), self._paths, text)
        return text if marked == text else {"text": marked}

    def leave_bytes(self, value: bytes) -> Encoded:
        """Bytes for saving. In those that are short enough to be a path, and text, paths are replaced, too."""
        if len(value) <= _LONGEST_PATH:
            with suppress(UnicodeDecodeError):
                marked = self.leave(value.decode())
                if isinstance(marked, Mapping):
                    return {"bytes": marked}
        return {"bytes": base64.b64encode(value).decode()}

    def arrive_bytes(self, saved: str | Mapping[str, str]) -> bytes:
        """The bytes that `leave_bytes` saved, with the paths of this run."""
        return base64.b64decode(saved) if isinstance(saved, str) else self.arrive(saved["text"]).encode()

    def arrive(self, text: str) -> str:
        """Replace marks by the paths of this run."""
        return functools.reduce(lambda found, known: found.replace(known[0], known[1]), self._marks, text)


class Content:
    """Reads saved arrays; `read` returns bytes by digest, as `CheckpointStore.content` does."""

    def __init__(self, read: Callable[[Digest], bytes]) -> None:
        self._read = read

    def array(self, encoded: Mapping[str, Any]) -> Any:
        """A writable copy of a saved array."""
        import numpy as np

        raw = base64.b64decode(encoded["in"]) if "in" in encoded else self._read(Digest.parse(encoded["at"]))
        name = encoded["dtype"]
        if name == "|O":  # a variable of strings
            return np.array([*strings_of(raw)], "O").reshape(encoded["shape"])
        # NumPy's own types begin with the byte order; others, such as bfloat16, are looked up by name.
        dtype = np.dtype(name) if name[0] in "<|" else _named_type(name)
        found = np.frombuffer(raw, dtype).reshape(encoded["shape"]).copy()
        if "big_endian" in encoded:
            found = found.astype(found.dtype.newbyteorder(">"))
        found = with_strides(found, encoded["strides"]) if "strides" in encoded else found
        found.flags.writeable = "read_only" not in encoded
        return found


def _named_type(name: str) -> Any:
    import tensorflow as tf

    return tf.as_dtype(name).as_numpy_dtype


def kind_of(encoded: Mapping[str, Any]) -> str:
    """The kind of an encoded object: the key that holds its content, and says nothing about it beside that."""
    return next(key for key in encoded if key not in _BESIDE)


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are one object, or equal ones without an identity that a script could rely on."""
    if one is other or type(one) is not type(other):
        return one is other
    if type(one) is float:
        return float_text(one) == float_text(other)
    return type(one) in (*PLAIN, bytes) and bool(one == other)


def encoded_member(member: enum.Enum) -> dict[str, Any]:
    """A member of an enumeration by its name; several flags together, which are no member, by their value, too."""
    named = {"class": qualified_name(type(member)), "name": member.name}
    return named if member.name in type(member).__members__ else {**named, "value": member.value}


def name_in_file(value: Any) -> str | None:
    """What stands for a file of h5py that is open for reading, or for a part of one, which nothing changes."""
    kind = type(value)
    if kind.__module__.partition(".")[0] != "h5py":
        return None
    with suppress(Exception):  # it is closed, or has neither file nor name
        if value.file.mode == "r":
            return f"{kind.__module__}:{kind.__qualname__} {os.path.basename(value.file.filename)}:{value.name}"
    return None


def qualified_name(value: Any) -> str:
    """Describes a value without its state; the same text in every run of a script."""
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if (opened := name_in_file(value)) is not None:
        return opened
    if isinstance(value, (range, slice)):
        return repr(value)
    kind = f"{type(value).__module__}:{type(value).__qualname__}"
    if kind in _NAMED:
        return f"{kind} {value!r}"
    # A default `repr` contains an address, which differs between runs.
    text = "" if hasattr(value, "__dict__") or isinstance(value, _WITHOUT_REPR) else repr(value)
    return kind if not text or " at 0x" in text else f"{kind} {text}"


def place_of(function: Any) -> str | None:
    """The line and column of a function's first expression; all lambdas of a module have one name."""
    if not isinstance(function, types.FunctionType):
        return None
    code = function.__code__
    # What comes first for the interpreter alone has no columns.
    column = next((column for _, _, column, end in code.co_positions() if end), None)
    return f"{code.co_firstlineno}:{column}"


def resolve_name(name: str, where: str, place: str | None = None) -> Any:
    """Look up a function in a loaded module of the script or a library; never imports or calls anything.

    Raises UncapturableError if there is no such function, or one from another `place`.
    """
    module, _, path = name.partition(":")
    # Never imported: a checkpoint must not run code.
    found: Any = sys.modules.get(module) if module.partition(".")[0] in _LIBRARIES else None
    for part in path.split("."):
        found = getattr(found, part, None)
    # Classes and other callables are refused, as creating instances could run code.
    if not isinstance(found, types.FunctionType) or place not in (None, place_of(found)):
        raise UncapturableError(f"{where} was the function {name}, which was created during training; create it before")
    return found
