"""Where a captured state differs from an earlier one of the same process: a Python value that changed meanwhile."""

from collections.abc import Iterator, Mapping
from typing import Any

from samebits.runner.checkpoint.state.encoding import SYMBOLIC, Encoded, kind_of
from samebits.runner.checkpoint.state.restorability import differing_fixed

_MISSING: Encoded = {"constant": "missing"}


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Where two captured states, without the values of variables, differ first; None if they are equal."""
    for part in ("roots", "globals"):
        known = {tuple(item[:-1]): item[-1] for item in before[part]}
        for *name, value in now[part]:
            if tuple(name) in known:
                found = next(_differences(known[tuple(name)], value, ".".join(name)), None)
                if found is not None:
                    return found
    return None


def first_new_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Where two captured states differ first, apart from what building layers adds; None if nowhere."""
    for part in ("roots", "globals"):
        known = {".".join(item[:-1]): item[-1] for item in before.get(part, ())}
        for *name, value in now.get(part, ()):
            where = _first_change_while_building(known.get(".".join(name)), value, ".".join(name))
            if where is not None:
                return where
    return None


def _first_change_while_building(before: Encoded, now: Encoded, where: str) -> str | None:
    """Where a captured state differs that a step has built meanwhile, apart from what building adds or sets first."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        if SYMBOLIC in (before, now) or "again" in before or "again" in now:
            return None
        changed = differing_fixed(before.get("fixed") or {}, now.get("fixed") or {}, built=True)
        if changed:
            return changed[0]
        names = [name for name in before if name in now and name not in _SET_BY_BUILDING]
        found = (_first_change_while_building(before[name], now[name], _path(where, name)) for name in names)
        return next((path for path in found if path is not None), None)
    if isinstance(before, list) and isinstance(now, list):
        pairs = enumerate(zip(before, now, strict=True)) if len(before) == len(now) else ()
        inner = (_first_change_while_building(*pair, _item_path(where, pair[1], index)) for index, pair in pairs)
        return next((path for path in inner if path is not None), None)
    kept = isinstance(before, (Mapping, list)) or isinstance(now, (Mapping, list)) or before in (None, False)
    return None if kept or before == now else where


def _differences(before: Encoded, now: Encoded, where: str) -> Iterator[str]:
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        # A tensor of a graph takes the place of what was there before the first trace.
        if SYMBOLIC in (now, before):
            return
        # Keras asks between steps whether to stop; no graph reads that.
        ignored = {"#", "stop_training"} | (
            _BUILT if before.get("build", 0) is None and now.get("build") is not None else set()
        )
        for name in [*before, *(name for name in now if name not in before)]:
            if name not in ignored:
                yield from _differences(before.get(name, _MISSING), now.get(name, _MISSING), _path(where, name))
    elif isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        for index, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(one, other, _item_path(where, other, index))
    elif before != now and SYMBOLIC not in (now, before):
        yield where


# What a Sequential gets when its first step builds it; `restorability` checks the rest.
_BUILT = frozenset({"build", "fixed", "inner"})
_SET_BY_BUILDING = _BUILT | {"#", "stop_training", "built"}
_STRUCTURE = frozenset(
    {
        *("object", "layer", "optimizer", "attributes", "fixed", "inner", "of", "list", "tuple", "dict", "type"),
        *("function", "cells", "holds", "methods", "float", "scalar", "array", "in", "at", "strides", "big_endian"),
        *("without", "wrapped", "method", "class"),
        *("constant", "again", "unsaved", "tensor", "deque", "set", "frozenset", "partial", "weak", "complex", "bytes"),
        *(
            "numpy_generator",
            "numpy_state",
            "python_random",
            "unchanged",
            "held",
            "replaced",
            "member",
            "text",
            "path",
            "file",
        ),
    }
)
"""Names in encoded state that say nothing to a user."""


def _path(where: str, name: str) -> str:
    return where if name in _STRUCTURE else f"{where}.{name.partition(' ')[2] or name}"


def _item_path(where: str, item: Encoded, index: int) -> str:
    # A layer is known by its own name.
    if isinstance(item, Mapping) and kind_of(item) == "layer":
        return f"{where}.{item['layer'].get('name', index)}"
    return where
