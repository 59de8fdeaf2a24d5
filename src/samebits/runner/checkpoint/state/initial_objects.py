"""Tells apart objects that were changed during training from objects that took their place.

State is restored into the objects that the script makes again. Where training put another object in a place, the first
one may still be held elsewhere, such as by a variable of the script: it must not get the other one's state.
"""

import gc
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from samebits.runner.checkpoint.state.array_parts import mark_parts, owner_of
from samebits.runner.checkpoint.state.capture import StateCapture
from samebits.runner.checkpoint.state.encoding import NEW, PART, REPLACEABLE, WAS, Encoded, UncapturableError, kind_of
from samebits.runner.checkpoint.state.object_places import IN_PLACE, first_numbers
from samebits.runner.checkpoint.state.state_walker import StateWalker

_HELD_BY_NAME = (IN_PLACE | {"held", "unchanged", "wrapped"}) - {"variable", "layer", "optimizer"}
"""Kinds of object whose place is a name or a key. Keras lists its own in another order once it has built them."""


class InitialObjects:
    """The objects that state is restored into, as they were when a phase began; most are not kept alive by this.

    `kept` is whether somebody keeps what was captured, and so each of its objects.
    """

    def __init__(self, captured: StateCapture, walker: StateWalker, *, kept: bool = False) -> None:
        self._encoded, self._walker, self._kept = captured.encoded, walker, kept
        self._nodes: dict[int, Encoded] = {}
        self._objects: dict[int, Callable[[], Any]] = {}
        self._places: dict[int, str] = {}
        self._numbers: dict[int, int] = {}
        for node in _nodes(captured.encoded):
            number = node["#"]
            value, self._places[number] = captured.visited(number)
            self._nodes[number], self._objects[number] = node, _reference(value)
            self._numbers[id(value)] = number
        self._times = Counter(self._places.values())
        self._by_place = {place: number for number, place in self._places.items()}

    def at(self, place: str) -> Any:
        """The object that was at a place; None where there is none, or more than one."""
        return self._objects[self._by_place[place]]() if self._times[place] == 1 else None

    def mark(self, captured: StateCapture) -> None:
        """Mark in captured state what is not to be restored into the object that was in its place.

        Raises UncapturableError where that cannot be restored.
        """
        first = first_numbers(self._encoded, captured.encoded)
        # A root is in no place, and some are made for each capture.
        roots = {id(item) for _, item in captured.encoded["roots"]}
        nodes = [node for node in _nodes(captured.encoded) if id(node) not in roots]
        for node in nodes:
            value, where = captured.visited(node["#"])
            number, before = self._number_of(value), first.get(node["#"])
            if number is not None and number != before:
                if self.at(self._places[number]) is value:
                    node[WAS] = self._places[number]
                elif before is not None:
                    raise UncapturableError(f"{where} moved during training, from a place without a name of its own")
            elif number is not None:
                self._check_shape(node, number, where)
            elif before in self._objects and kind_of(node) != "wrapped":
                self._mark_new(node, before, captured, where)
        mark_parts([node for node in nodes if kind_of(node) in ("array", "unchanged")], captured, self._place_of)

    def changed_arrays(self, captured: StateCapture) -> Iterator[tuple[Any, str]]:
        """The initial arrays whose content is no longer the first one, and where each is."""
        for node in _nodes(captured.encoded):
            value, where = captured.visited(node["#"])
            number = self._number_of(value) if kind_of(node) == "array" else None
            if number is not None and _content(self._nodes[number]) != _content(_unmarked(node)):
                yield value, where

    def _place_of(self, value: Any) -> str | None:
        """Where an initial object was; None for others, and for one whose place is not its own."""
        number = self._number_of(value)
        place = None if number is None else self._places[number]
        return place if place is not None and self.at(place) is value else None

    def _check_shape(self, node: dict[str, Any], number: int, where: str) -> None:
        """Something else may hold an array that was given another shape in place."""
        one, other = (item.get("array", {}).get("shape") for item in (node, self._nodes[number]))
        if one != other and None not in (one, other):
            raise UncapturableError(f"{where} was given another shape in place during training; make another array")

    def _mark_new(self, node: dict[str, Any], before: int, captured: StateCapture, where: str) -> None:
        """Another object is in the place of the one with the number `before`."""
        if kind_of(node) == "held":
            raise UncapturableError(
                f"{where} became other data of the same kind during training, which a resumed run does not make; make"
                " it before, or where it is used"
            )
        if not self._is_held(before):
            return
        can_be_made = kind_of(node) in REPLACEABLE and "class" not in node
        # Of a part of an array, its whole.
        known = captured.number_of(owner_of(self._objects[before]())) is not None
        if can_be_made and (known or self._is_as_at_first(before, where)):
            node[NEW] = True
            return
        gc.collect()  # it may be held by itself alone
        if self._is_held(before):
            what = "and that changed before" if can_be_made else "which a resumed run cannot repeat"
            raise UncapturableError(
                f"{where} was replaced during training, while something else holds the first one, {what}; change it in"
                " place, or begin with a copy"
            )

    def _number_of(self, value: Any) -> int | None:
        number = self._numbers.get(id(value))
        # The id of an object that is gone may be used again.
        return number if number is not None and self._objects[number]() is value else None

    def _is_held(self, number: int) -> bool:
        """Whether anybody but this holds an initial object, or the array of which it is a part."""
        reference = self._objects[number]
        value = reference()
        base = getattr(value, "base", None) if kind_of(self._nodes[number]) == "array" else None
        # It is held by its part, by a variable here and the argument there.
        if base is not None and sys.getrefcount(base) > 3:
            return True
        del base
        # A variable here and the argument there hold it, too; and we do, where there are no weak references.
        own = 2 + int(not isinstance(reference, weakref.ref)) + int(self._kept)
        held: bool = value is not None and sys.getrefcount(value) > own
        if not held:
            # What it holds, in its turn, is then held no more by us.
            self._objects[number] = _gone
        return held

    def _is_as_at_first(self, number: int, where: str) -> bool:
        now = self._walker.capture({where: self._objects[number]()}).encoded["roots"][0][1]
        first = _content(self._nodes[number])
        return first is not None and bool(_content(now) == first)


def _unmarked(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in node.items() if name not in (WAS, NEW, PART)}


def _gone() -> None:
    """The reference to an object that is gone."""


def _reference(value: Any) -> Callable[[], Any]:
    """A function that returns the object, or None once it is gone; without weak references, it is kept alive."""
    # So is a part of an array: what was written to it is in the whole.
    if owner_of(value) is value:
        with suppress(TypeError):
            return weakref.ref(value)
    return lambda: value


def _nodes(encoded: Encoded) -> Iterator[dict[str, Any]]:
    """The numbered objects of encoded state that are restored in place, also functions that hold something."""
    if isinstance(encoded, dict):
        kind = kind_of(encoded) if "#" in encoded else ""
        function = encoded["function"] if kind == "function" else {"cells": [], "holds": None}
        if kind in _HELD_BY_NAME or kind == "partial" or function["cells"] or function["holds"] is not None:
            yield encoded
        # What a generator holds is made whenever it is asked for.
        for name, item in () if kind in ("numpy_generator", "numpy_state") else encoded.items():
            yield from _nodes(_held_by_parts(item) if name == "holds" and item is not None else item)
    elif isinstance(encoded, list):
        for item in encoded:
            yield from _nodes(item)


def _held_by_parts(holds: Mapping[str, Any]) -> list[Encoded]:
    """What default arguments and attributes of a function are, without the lists that a capture makes for them."""
    return [part[kind] for part in holds.get("list", ()) if (kind := kind_of(part)) in ("list", "dict")]


def _content(encoded: Encoded) -> Encoded:
    """Encoded state without numbers; None where it refers to an object by one, so that it says nothing by itself."""
    if isinstance(encoded, Mapping):
        if "again" in encoded:
            return None
        items = {name: _content(item) for name, item in encoded.items() if name != "#" and item is not None}
        return None if None in items.values() else items
    if isinstance(encoded, list):
        listed = [("none" if item is None else _content(item)) for item in encoded]
        return None if None in listed else listed
    return encoded
