"""Captures lists, tuples, deques, mappings and sets as JSON."""

import collections
from collections.abc import Callable, MutableMapping
from typing import Any

from samebits.runner.checkpoint.encoding import Encoded, UncapturableError, qualified_name
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
        name = qualified_name(type(value))
        if isinstance(value, collections.defaultdict):
            name += f" of {qualified_name(value.default_factory)}"
        return {"dict": pairs} | ({} if _is_plain(value, dict) else {"class": name})
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
    # A subclass or a bounded deque can only be restored into an object of its class.
    special = not _is_plain(value, kind) or getattr(value, "maxlen", None) is not None
    return {kind.__name__: items} | ({"class": qualified_name(type(value))} if special else {})


def _is_plain(value: Any, kind: type) -> bool:
    """Whether a container is one of Python's, or Keras or TensorFlow put it in the place of one."""
    return type(value) is kind or type(value).__module__ in keras_private.WRAPPER_MODULES


def _encode_set(value: Any, where: str, encode: Encode) -> Encoded:
    items = list(value)
    # The iteration order of a set depends on its insertions and removals, which a new set does not repeat.
    kind = set if isinstance(value, set) else frozenset
    if list(kind(items)) != items:
        raise UncapturableError(f"{where} is a set whose iteration order cannot be reproduced; use a dict or a list")
    return {kind.__name__: [encode(item, where) for item in items]}
