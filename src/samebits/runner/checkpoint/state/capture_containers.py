"""Captures lists, tuples, deques, mappings and sets as JSON."""

import collections
from collections.abc import Callable, MutableMapping
from typing import Any

from samebits.runner.checkpoint.state.encoding import Encoded, UncapturableError, qualified_name
from samebits.runner.compat import keras_private

Encode = Callable[[Any, str], Encoded]
"""Captures one value; the text says where the value was found."""

_SEQUENCES = (list, tuple, collections.deque)
BUILTIN_CONTAINERS = (*_SEQUENCES, dict, set, frozenset)


def encode_container(value: Any, where: str, encode: Encode) -> Encoded | None:
    """A container as JSON, its items captured by `encode`; None if the value is no container.

    Raises UncapturableError for a set whose order a resumed run could not reproduce.
    """
    if isinstance(value, _SEQUENCES):
        return _encode_sequence(value, where, encode)
    if isinstance(value, dict) or _is_kept_by_items(value):
        pairs = [[encode(key, where), encode(item, f"{where}[{key!r}]")] for key, item in value.items()]
        return with_class({"dict": pairs}, value)
    if isinstance(value, (set, frozenset)) and _is_plain(value, type(value)):
        return _encode_set(value, where, encode)
    return None


def _is_kept_by_items(value: Any) -> bool:
    """Whether a mapping that is no dict is captured by its items.

    Others are captured by their attributes: of a `ChainMap` only one dict is written to, of a database its files are.
    """
    if not isinstance(value, MutableMapping):
        return False
    kind = type(value)
    return kind.__module__ in (*keras_private.WRAPPER_MODULES, "weakref", "os")


def _encode_sequence(value: Any, where: str, encode: Encode) -> Encoded:
    kind = next(kind for kind in _SEQUENCES if isinstance(value, kind))
    items = [encode(item, f"{where}[{index}]") for index, item in enumerate(value)]
    return with_class({kind.__name__: items}, value)


def with_class(encoded: Encoded, value: Any) -> Encoded:
    """An encoded container or array with its class, if only an object of that class can hold what was captured."""
    kind = held_class(value)
    return encoded if kind is None else {**encoded, "class": kind}


def held_class(value: Any) -> str | None:
    """The class of a container or array that is not Python's or NumPy's usual one, and how many items it may hold."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return None if type(value) in (np.ndarray, np.memmap) else qualified_name(type(value))
    kind = next((kind for kind in BUILTIN_CONTAINERS if isinstance(value, kind)), None)
    most = value.maxlen if isinstance(value, collections.deque) else None
    if most is not None:
        return f"{qualified_name(type(value))} of at most {most}"
    if (kind is None and not isinstance(value, collections.abc.MutableMapping)) or _is_plain(value, kind):
        return None
    made = value.default_factory if isinstance(value, collections.defaultdict) else None
    return qualified_name(type(value)) + ("" if made is None else f" of {qualified_name(made)}")


def _is_plain(value: Any, kind: type | None) -> bool:
    """Whether a container is one of Python's, or Keras or TensorFlow put it in the place of one."""
    return type(value) is kind or type(value).__module__ in keras_private.WRAPPER_MODULES


def _encode_set(value: Any, where: str, encode: Encode) -> Encoded:
    items = list(value)
    # The iteration order of a set depends on its insertions and removals, which a new set does not repeat.
    kind = set if isinstance(value, set) else frozenset
    if list(kind(items)) != items:
        raise UncapturableError(f"{where} is a set whose iteration order cannot be reproduced; use a dict or a list")
    return {kind.__name__: [encode(item, where) for item in items]}
