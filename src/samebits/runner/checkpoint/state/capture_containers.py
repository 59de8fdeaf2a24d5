"""Captures lists, tuples, deques, mappings and sets as JSON."""

import collections
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from samebits.runner.checkpoint.state.container_access import items_of, pairs_of, set_order
from samebits.runner.checkpoint.state.encoding import (
    ORDER,
    PLAIN,
    Encoded,
    UncapturableError,
    kind_of,
    qualified_name,
)
from samebits.runner.compat import keras_private

Encode = Callable[[Any, str], Encoded]
"""Captures one value; the text says where the value was found."""

_SEQUENCES = (list, tuple, collections.deque)
_MADE = frozenset({"again", "tuple", "frozenset", "float", "bytes", "complex", "scalar", "text", "path"})
"""Kinds of value that a set may be filled with again."""
_FOUND = frozenset({"constant", "member", "type", "function", "unsaved", "held"})
"""Kinds of value that the script makes again: a set of them must stay as it is."""
BUILTIN_CONTAINERS = (*_SEQUENCES, dict, set, frozenset)


def encode_container(value: Any, where: str, encode: Encode) -> Encoded | None:
    """A container as JSON, its items captured by `encode`; None if the value is no container.

    Raises UncapturableError for a set of objects that nothing before it holds.
    """
    if isinstance(value, _SEQUENCES):
        return _encode_sequence(value, where, encode)
    if isinstance(value, dict) or _is_kept_by_items(value):
        pairs = [
            [encode(key, f"{where} (key {number})"), encode(item, f"{where}[{key_text(key, number)}]")]
            for number, (key, item) in enumerate(pairs_of(value))
        ]
        return with_class({"dict": pairs}, value)
    if isinstance(value, (set, frozenset)) and _is_plain(value, type(value)):
        return _encode_set(value, where, encode)
    return None


def key_text(key: Any, number: int) -> str:
    """What names an item of a mapping, in every run of a script: the `repr` of an object may have an address."""
    return repr(key) if isinstance(key, (*PLAIN, float, bytes)) else f"item {number}"


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
    items = [encode(item, f"{where}[{index}]") for index, item in enumerate(items_of(value))]
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
    encoded = [encode(item, where) for item in items]
    found: Encoded = {"set" if isinstance(value, set) else "frozenset": encoded}
    kinds = list(_kinds_in(encoded))
    objects = [kind for kind in kinds if kind not in _MADE | _FOUND]
    if len(objects) > 1 or "weak" in objects:
        # Nothing says which of the objects that a resumed run makes is which.
        raise UncapturableError(f"{where} is a set that alone holds objects; hold them in a list, too")
    # The order of a set depends on its insertions and removals, which a new set does not repeat.
    order = set_order(value, items) if _MADE.issuperset(kinds) else []
    return found if order is None else {**found, ORDER: order}


def _kinds_in(encoded: Encoded) -> Iterator[str]:
    """The kinds of values in a list of encoded ones, also in tuples and sets."""
    for item in encoded:
        if isinstance(item, dict):
            kind = kind_of(item)
            yield kind
            if kind in ("tuple", "frozenset"):
                yield from _kinds_in(item[kind])
