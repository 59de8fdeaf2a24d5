"""Saved state as it is written: JSON and bytes, what stands for what, and what things are called in it."""

import base64
import functools
import io
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest

Encoded = Any
"""JSON: None, bool, int and str stand for themselves; all else is an object whose first key names its kind. What may be
met more than once has a number under `#`, by which it is told again.
"""

EMPTY: Mapping[str, Any] = {"constant": "empty"}
PLAIN = (bool, int, str, type(None))
_BY_KIND = (io.IOBase, types.BuiltinFunctionType, types.MethodWrapperType)
"""What is told by its kind alone: its text names addresses, or files."""

_LIBRARIES = ("__main__", "keras", "numpy", "tensorflow")
"""Where functions are looked up that an object got during the training, as Keras's callbacks do."""


class UncapturableError(Exception):
    """Something holds state that cannot be taken out, or put back; the message says what, and what to change."""


class PathMap:
    """Folders that are elsewhere in another run, as its own is: in saved text, marks stand for them."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._marks = [(f"\0{name}\0", str(path)) for name, path in folders.items()]

    def leave(self, text: str) -> Encoded:
        """Text as it is saved."""
        left = functools.reduce(lambda found, known: found.replace(known[1], known[0]), self._marks, text)
        return text if left == text else {"text": left}

    def arrive(self, text: str) -> str:
        """Text as it reads in this run."""
        return functools.reduce(lambda found, known: found.replace(known[0], known[1]), self._marks, text)


class Content:
    """Bytes by digest, as `Store.content` gives them."""

    def __init__(self, read: Callable[[Digest], bytes]) -> None:
        self._read = read

    def array(self, encoded: Mapping[str, Any]) -> Any:
        """An array as it was saved."""
        import numpy as np
        import tensorflow as tf

        raw = base64.b64decode(encoded["in"]) if "in" in encoded else self._read(Digest.parse(encoded["at"]))
        name = encoded["dtype"]
        dtype = np.dtype(name) if name[0] in "<|" else tf.as_dtype(name).as_numpy_dtype
        return np.frombuffer(raw, dtype).reshape(encoded["shape"]).copy()


def kind_of(encoded: Mapping[str, Any]) -> str:
    """What an encoded object is."""
    return next(key for key in encoded if key not in ("#", "class"))


def qualified_name(value: Any) -> str:
    """What a thing is, without its state; the same in every run of a script."""
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, (range, slice)):
        return repr(value)
    kind = f"{type(value).__module__}:{type(value).__qualname__}"
    text = "" if hasattr(value, "__dict__") or isinstance(value, _BY_KIND) else repr(value)
    return kind if not text or " at 0x" in text else f"{kind} {text}"


def resolve_name(name: str, where: str) -> Any:
    """A function that a loaded module has under its name; it is looked up, and not called."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module) if module.partition(".")[0] in _LIBRARIES else None
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, types.FunctionType):
        raise UncapturableError(f"{where} was the function {name}, which was made during the training; make it before")
    return found
