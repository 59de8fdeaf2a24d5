"""Finds objects that moved in captured state: what is restored goes into the object that was in a place at first."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from samebits.runner.checkpoint.state.encoding import Encoded, kind_of
from samebits.runner.checkpoint.state.restorability import paired_items

IN_PLACE = frozenset(
    {
        *("layer", "optimizer", "object", "variable", "array", "list", "dict", "deque", "set"),
        *("numpy_generator", "numpy_state", "python_random", "tensorflow_generator"),
    }
)
"""Kinds of object that are restored in place. Others are named, or made anew."""


def first_numbers(initial: Mapping[str, Any], captured: Mapping[str, Any]) -> dict[int, int]:
    """By its number in captured state, the number that the object in the same place had in the `initial` one."""
    found: dict[int, int] = {}
    for one, other in _parts(initial, captured):
        for before, now in _pairs(one, other):
            found.setdefault(now["#"], before["#"])
    return found


def restored_in_place(initial: Mapping[str, Any]) -> frozenset[int]:
    """The numbers of the objects in captured state that are restored in place."""
    objects = (item for one, other in _parts(initial, initial) for item, _ in _pairs(one, other))
    return frozenset(item["#"] for item in objects if kind_of(item) in IN_PLACE)


def restored_place(
    first: Mapping[int, int], in_place: frozenset[int], number_of: Callable[[Any], int | None]
) -> Callable[[Any], int | None]:
    """A function that gives the number in initial state of the object into which a live one is restored, or None.

    `first` are `first_numbers`, `in_place` is `restored_in_place`; `number_of` gives the number in captured state.
    """

    def place(value: Any) -> int | None:
        number = number_of(value)
        found = None if number is None else first.get(number)
        return found if found in in_place else None

    return place


def _parts(initial: Mapping[str, Any], captured: Mapping[str, Any]) -> Iterator[tuple[Encoded, Encoded]]:
    for part in ("roots", "globals"):
        known = {tuple(item[:-1]): item[-1] for item in initial[part]}
        for *name, item in captured[part]:
            yield known.get(tuple(name)), item


def _pairs(initial: Encoded, captured: Encoded) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Pairs of numbered objects, as the restorer meets them: the items of a dict by their keys."""
    if isinstance(initial, Mapping) and isinstance(captured, Mapping):
        if "#" in initial and "#" in captured:
            yield initial, captured
        for name, item in captured.items():
            of_dict = name == "dict" and isinstance(item, list) and isinstance(initial.get(name), list)
            pairs = [(other, one) for one, other in paired_items(name, item, initial[name])] if of_dict else []
            # An object that is a key is at first where its number in the dict says.
            pairs += [(one[0], other[0]) for one, other in zip(initial[name], item, strict=False)] if of_dict else []
            for pair in pairs or [(initial.get(name), item)]:
                yield from _pairs(*pair)
    elif isinstance(initial, list) and isinstance(captured, list):
        for pair in zip(initial, captured, strict=False):
            yield from _pairs(*pair)
