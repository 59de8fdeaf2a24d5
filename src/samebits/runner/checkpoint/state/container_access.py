"""Reads and fills containers without code of their classes: a script may count what goes in, or change it."""

import collections
import enum
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from samebits.runner.checkpoint.state.encoding import Encoded, encoded_member, is_same, kind_of, qualified_name
from samebits.runner.compat import cpython_private, keras_private

_DICTS = (collections.OrderedDict, dict)
_SEQUENCES = (list, collections.deque, tuple)
_MOST_TRIED = 256
_NAMED = ("constant", "member", "type", "function", "layer")
_RESTORED: Mapping[str, tuple[Any, type]] = {
    "list": (list, list),
    "deque": (collections.deque, collections.deque),
    "dict": (dict, MutableMapping),
    "set": (set, set),
}


def items_of(value: Any) -> list[Any]:
    """The items of a list, tuple or deque."""
    kind = _builtin(value, _SEQUENCES)
    return list(value if kind is None else kind.__iter__(value))


def pairs_of(value: Any) -> list[tuple[Any, Any]]:
    """The keys and items of a mapping."""
    kind = _builtin(value, _DICTS)
    return list(value.items() if kind is None else kind.items(value))


def usable(kind: str, live: Any) -> Any:
    """What a container of this kind is restored into: the live one, or a new one of Python where it is none of it."""
    made, wanted = _RESTORED.get(kind, (None, object))
    return live if made is None or isinstance(live, wanted) else made()


def counterpart(encoded: Encoded, candidates: Sequence[Any], index: int) -> Any:
    """Which of a live container's keys or items a saved one stands for: one of its name, else the one in its place."""
    name = name_of_key(encoded)
    found = (value for value in candidates if name is not None and _is_named(value, *name))
    return next(found, candidates[index] if index < len(candidates) else None)


def name_of_key(encoded: Encoded) -> tuple[str, Any] | None:
    """The kind and the name of an encoded value that has one; None for others."""
    kind = kind_of(encoded) if isinstance(encoded, Mapping) else ""
    if kind not in _NAMED:
        return None
    content = encoded[kind]
    return kind, content if kind in ("constant", "member") else content["name"]


def _is_named(value: Any, kind: str, name: Any) -> bool:
    if kind == "member":
        return isinstance(value, enum.Enum) and encoded_member(value) == name
    if kind == "layer":
        return bool(getattr(value, "name", None) == name)
    return bool(qualified_name(value) == name)


def refill_sequence(live: Any, items: list[Any]) -> None:
    """Put these items into a list or deque, if it holds others."""
    known = items_of(live)
    if len(known) == len(items) and all(one is other for one, other in zip(known, items, strict=True)):
        return
    kind = _builtin(live, _SEQUENCES)
    if isinstance(live, list):
        list.__setitem__(live, slice(None), items) if kind is list else live.__setitem__(slice(None), items)
        return
    collections.deque.clear(live)
    collections.deque.extend(live, items)


def refill_mapping(live: Any, items: Iterable[tuple[Any, Any]]) -> None:
    """Put these items into a mapping, in their order."""
    kind: Any = _builtin(live, _DICTS) or type(live)
    wanted, known = list(items), pairs_of(live)
    # Only a new dict has the saved order of keys; a clear keeps the object. Equal keys may differ, as 1 and True.
    same = len(known) == len(wanted) and all(is_same(one[0], two[0]) for one, two in zip(known, wanted, strict=True))
    if not same:
        kind.clear(live)
        known = []
    for number, (key, item) in enumerate(wanted):
        if not known or known[number][1] is not item:
            kind.__setitem__(live, key, item)


def refilled_tuple(live: Any, items: list[Any], kind: type) -> Any:
    """A tuple of this class with these items: the live one if possible, as other objects may refer to it."""
    known = items_of(live) if type(live) is kind else None
    if known is not None and len(known) == len(items) and all(map(is_same, known, items)):
        return live
    return tuple.__new__(kind, items)


def set_order(value: Any, items: list[Any]) -> list[int] | None:
    """How `refill_set` makes a set of the same order, now and when items come or go; empty where it cannot.

    None where it needs no help.
    """
    found = cpython_private.set_layout(value)
    for at_once in range(len(items) + 1 if len(items) <= _MOST_TRIED else 1):
        fresh = refill_set(set(), items, at_once)
        if cpython_private.set_layout(fresh) == found and list(fresh) == items:
            return [at_once] if at_once else None
    return []


def refill_set(live: Any, items: list[Any], at_once: int = 0) -> Any:
    """Fill a set in the order of these items; `at_once` are how many a larger table is made for, as by a union."""
    live.clear()
    live.update(dict.fromkeys(items[:at_once]))
    for item in items[at_once:]:
        live.add(item)
    return live


def _builtin(value: Any, kinds: tuple[type, ...]) -> Any:
    """The class of Python whose methods leave out those of the script; None where its own keep more than the items."""
    kind = type(value)
    beside = getattr(value, "__dict__", value)
    # What Keras and TensorFlow put in the place of a list or dict is followed by them.
    if kind.__module__ in keras_private.WRAPPER_MODULES or (
        isinstance(beside, Mapping) and beside is not value and beside
    ):
        return None
    return next((known for known in kinds if issubclass(kind, known)), None)
