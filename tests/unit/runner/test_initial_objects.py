"""What took the place of an object is not restored into that object, which something else may hold."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samebits.runner.checkpoint.fit_phase import check_unchanged
from samebits.runner.checkpoint.state.capture_containers import key_text
from samebits.runner.checkpoint.state.encoding import NEW, PART, WAS, Content, PathMap, UncapturableError
from samebits.runner.checkpoint.state.initial_objects import InitialObjects
from samebits.runner.checkpoint.state.restore import StateRestorer

PATHS = PathMap({"run": Path("/runs/a")})


class Config:
    """An object of the script's."""

    def __init__(self, rate: float) -> None:
        self.rate = rate


class Data:
    """Stands for a pipeline of tf.data, which no text describes."""


class Walker:
    """Captures lists, dicts, arrays, numbers and this module's objects, as the real one does with Keras installed."""

    def capture(self, roots: dict[str, Any]) -> "Captured":
        return Captured(roots)


class Captured:
    """One walk."""

    def __init__(self, roots: dict[str, Any]) -> None:
        self.visits: list[tuple[Any, str]] = []
        self.encoded: dict[str, Any] = {
            "roots": [[name, self._encode(value, name)] for name, value in roots.items()],
            "globals": [],
        }

    def visited(self, number: int) -> tuple[Any, str]:
        return self.visits[number]

    def number_of(self, value: Any) -> int | None:
        return next((number for number, (known, _) in enumerate(self.visits) if known is value), None)

    def _encode(self, value: Any, where: str) -> Any:  # noqa: PLR0911
        if isinstance(value, (int, str)):
            return value
        if (number := self.number_of(value)) is not None:
            return {"again": number}
        self.visits.append((value, where))
        number = len(self.visits) - 1
        if isinstance(value, list):
            return {"list": [self._encode(item, f"{where}[{at}]") for at, item in enumerate(value)], "#": number}
        if isinstance(value, dict):
            pairs = [
                [self._encode(key, f"{where} (key {at})"), self._encode(item, f"{where}[{key_text(key, at)}]")]
                for at, (key, item) in enumerate(value.items())
            ]
            return {"dict": pairs, "#": number}
        if isinstance(value, Data):
            return {"held": f"{__name__}:Data", "#": number}
        if isinstance(value, np.ndarray):
            about = {"dtype": value.dtype.str, "shape": list(value.shape), "at": value.tobytes().hex()}
            return {"array": about, "#": number}
        attributes = {name: self._encode(item, f"{where}.{name}") for name, item in vars(value).items()}
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"object": {"class": kind, "attributes": attributes, "ours": True, "of": []}, "#": number}


def initial(roots: dict[str, Any]) -> InitialObjects:
    captured: Any = Captured(roots)
    walker: Any = Walker()
    return InitialObjects(captured, walker)


def marked(roots: dict[str, Any], objects: InitialObjects) -> dict[str, Any]:
    captured: Any = Captured(roots)
    objects.mark(captured)
    encoded: dict[str, Any] = captured.encoded
    return encoded


def restored(encoded: dict[str, Any], roots: dict[str, Any]) -> None:
    """As in a resumed run, which has made the same objects again."""
    StateRestorer(Content(lambda _: b""), PATHS, initial(roots)).restore_roots(encoded, roots)


def test_what_changed_in_place_is_restored_in_place() -> None:
    held = [1]
    roots = {"callback": {"seen": held}}
    objects = initial(roots)
    held.append(2)
    again = [1]
    restored(marked(roots, objects), {"callback": {"seen": again}})
    assert again == [1, 2]


@pytest.mark.parametrize("first", [[1], {"a": 1}])
def test_what_took_its_place_is_made_anew(first: Any) -> None:
    roots = {"callback": {"seen": first}}
    objects = initial(roots)
    roots["callback"]["seen"] = type(first)()
    encoded = marked(roots, objects)
    held = type(first)(first)
    live = {"callback": {"seen": held}}
    restored(encoded, live)
    assert (live["callback"]["seen"], held) == (type(first)(), first)
    assert live["callback"]["seen"] is not held


def test_what_nobody_else_holds_is_restored_in_place() -> None:
    """It was filled, and then replaced: a list that is begun again with each epoch."""
    roots = {"callback": {"seen": [1]}}
    objects = initial(roots)
    roots["callback"]["seen"].append(2)
    roots["callback"]["seen"] = [3]
    node = marked(roots, objects)["roots"][0][1]["dict"][0][1]
    assert NEW not in node


def test_what_changed_before_it_was_replaced_is_refused() -> None:
    held = [1]
    roots = {"callback": {"seen": held}}
    objects = initial(roots)
    held.append(2)
    roots["callback"]["seen"] = [3]
    with pytest.raises(UncapturableError, match=r"callback\['seen'\] was replaced .* and that changed before"):
        marked(roots, objects)


def test_an_object_cannot_be_made_anew() -> None:
    config = Config(1)
    roots = {"callback": Config(1)}
    roots["callback"].rate = config  # type: ignore[assignment]
    objects = initial(roots)
    roots["callback"].rate = Config(2)  # type: ignore[assignment]
    with pytest.raises(UncapturableError, match=r"callback.rate was replaced during training, while something else"):
        marked(roots, objects)
    # Where nobody else holds the first one, the resumed run's may become the second.
    del config
    assert NEW not in marked(roots, objects)["roots"][0][1]


def test_objects_that_change_places() -> None:
    one, other = [1], [2]
    roots = {"callback": {"one": one, "other": other}}
    objects = initial(roots)
    one.append(3)
    roots["callback"].update(one=other, other=one)
    encoded = marked(roots, objects)
    assert encoded["roots"][0][1]["dict"][0][1][WAS] == "callback['other']"
    live = {"callback": {"one": (first := [1]), "other": (second := [2])}}
    restored(encoded, live)
    assert (first, second) == ([1, 3], [2])
    assert live["callback"] == {"one": second, "other": first}
    assert live["callback"]["one"] is second


def test_a_part_of_an_array_does_not_write_into_the_whole() -> None:
    whole = np.zeros(4)
    roots = {"callback": {"part": whole[:2]}}
    objects = initial(roots)
    roots["callback"]["part"] = np.ones(2)
    assert marked(roots, objects)["roots"][0][1]["dict"][0][1][NEW]
    # What was written to the part is in the whole, which no checkpoint holds.
    roots = {"callback": {"part": whole[:2]}}
    objects = initial(roots)
    roots["callback"]["part"] += 1
    roots["callback"]["part"] = np.ones(2)
    with pytest.raises(UncapturableError, match="and that changed before"):
        marked(roots, objects)


def test_another_part_of_an_array_that_is_captured() -> None:
    whole = np.zeros(4)
    roots = {"callback": {"whole": whole, "part": whole[:2]}}
    objects = initial(roots)
    roots["callback"]["part"] += 1
    roots["callback"]["part"] = whole[1:]
    encoded = marked(roots, objects)
    assert encoded["roots"][0][1]["dict"][1][1][NEW]
    assert encoded["roots"][0][1]["dict"][1][1][PART] == ["callback['whole']", 8]


def test_a_root_that_is_made_for_each_capture_is_not_marked() -> None:
    held = {"names": 1}
    objects = initial({"names": held})
    assert NEW not in marked({"names": {"names": 1}}, objects)["roots"][0][1]
    assert held


def keyed(*rates: int) -> dict[str, Any]:
    return {"callback": {"averages": {Config(rate): [rate] for rate in rates}}}


def test_keys_that_moved_keep_their_objects() -> None:
    roots = keyed(1, 2, 3)
    objects = initial(roots)
    averages = roots["callback"]["averages"]
    one, two, three = averages
    del averages[one]
    two.rate = 5
    averages[two] = averages.pop(two)
    encoded = marked(roots, objects)
    live = keyed(1, 2, 3)
    first, second, third = live["callback"]["averages"]
    restored(encoded, live)
    assert [key.rate for key in (first, second, third)] == [1, 5, 3]
    assert [*live["callback"]["averages"]] == [third, second]
    assert three.rate == 3


def test_another_object_that_is_a_key_does_not_take_the_place_of_the_first() -> None:
    held = Config(1)
    roots: dict[str, Any] = {"callback": {held: 1}}
    objects = initial(roots)
    roots["callback"] = {Config(2): 1}
    with pytest.raises(UncapturableError, match=r"callback \(key 0\) was replaced during training"):
        marked(roots, objects)
    assert held


def test_other_data_in_the_place_of_the_first() -> None:
    one, other = Data(), Data()
    roots = {"callback": {"now": one, "all": [one, other]}}
    objects = initial(roots)
    roots["callback"]["now"] = other
    live: dict[str, Any] = {"callback": {"now": (first := Data()), "all": [first, second := Data()]}}
    restored(marked(roots, objects), live)
    assert live["callback"]["now"] is second
    assert live["callback"]["all"][0] is first
    assert live["callback"]["all"][1] is second
    roots["callback"]["now"] = Data()
    with pytest.raises(UncapturableError, match=r"callback\['now'\] became other data of the same kind"):
        marked(roots, objects)


def test_an_array_that_was_given_another_shape_is_refused() -> None:
    roots = {"callback": {"seen": np.zeros((2, 3))}}
    objects = initial(roots)
    roots["callback"]["seen"].shape = (3, 2)
    with pytest.raises(UncapturableError, match=r"callback\['seen'\] was given another shape in place"):
        marked(roots, objects)


def test_an_object_that_is_a_key_stays_where_it_is() -> None:
    one, other = Config(1), Config(2)
    roots = {"callback": {"averages": {one: [1], other: [2]}}}
    objects = initial(roots)
    roots["callback"]["averages"][one].append(3)
    assert WAS not in str(marked(roots, objects))


def test_arrays_that_changed() -> None:
    one, other = np.zeros(4), np.zeros(2)
    roots = {"callback": {"one": one, "other": other}}
    objects = initial(roots)
    captured: Any = Captured(roots)
    assert [*objects.changed_arrays(captured)] == []
    one += 1
    roots["callback"].update(one=other, other=one)
    captured = Captured(roots)
    objects.mark(captured)
    assert [where for _, where in objects.changed_arrays(captured)] == ["callback['other']"]
    with pytest.raises(UncapturableError, match=r"^callback\['other'\] changed during training, and Keras makes its"):
        check_unchanged([other, one[2:]], objects.changed_arrays(captured))
    check_unchanged([other], objects.changed_arrays(captured))


def test_lists_that_a_capture_makes_of_default_arguments_are_not_marked() -> None:
    def state(number: int) -> Any:
        parts = [{"list": [{"list": [number], "#": 3}], "#": 2}, {"dict": [], "#": 4}, {"dict": [], "#": 5}]
        function = {"name": "f", "cells": [], "holds": {"list": parts, "#": 1}}
        return {"roots": [["callback", {"list": [{"function": function, "#": 0}], "#": 6}]], "globals": []}

    held = [object() for _ in range(7)]
    captured: Any = SimpleNamespace(encoded=state(1), visited=lambda number: (held[number], f"place {number}"))
    walker: Any = None
    objects = InitialObjects(captured, walker)
    captured.encoded = state(2)
    before, held[1], held[2], held[4] = held[:], object(), object(), object()
    objects.mark(captured)
    assert before
    assert NEW not in str(captured.encoded)


class Items(dict[str, Any]):
    """A dict whose items are attributes; a missing one raises KeyError."""

    __getattr__ = dict.__getitem__


def test_a_dict_that_is_replaced_is_not_asked_for_attributes() -> None:
    held = Items(a=1)
    roots: dict[str, Any] = {"callback": {"seen": held}}
    objects = initial(roots)
    roots["callback"]["seen"] = Items(a=2)
    encoded = marked(roots, objects)
    assert encoded["roots"][0][1]["dict"][0][1][NEW]
