"""Objects that are passed to a loop: which one a variable holds, and whether it is still in its place."""

from pathlib import Path
from typing import Any

import pytest

from samebits.runner.checkpoint.state.capture import StateCapture
from samebits.runner.checkpoint.state.encoding import PathMap
from samebits.runner.checkpoint.state.object_places import first_numbers, restored_in_place, restored_place


def _state(*items: Any, **roots: Any) -> dict[str, Any]:
    return {"roots": [*roots.items()], "globals": [["m", f"g{index}", item] for index, item in enumerate(items)]}


def _list(number: int, *items: Any) -> dict[str, Any]:
    return {"list": [*items], "#": number}


def _dict(number: int, **items: Any) -> dict[str, Any]:
    return {"dict": [[*pair] for pair in items.items()], "#": number}


def test_each_passed_object_has_its_own_code() -> None:
    one, other = object(), object()
    numbers = {id(one): 3, id(other): 5}
    captured = StateCapture("/code", PathMap({"run": Path("/run")}), {}, skip=lambda value: numbers.get(id(value)))
    assert captured.encode(one, "best") != captured.encode(other, "best")
    assert captured.encode(one, "last") == captured.encode(one, "best")
    assert captured.skipped == {3: (one, "best"), 5: (other, "best")}


def test_a_live_object_has_the_place_where_it_is_restored() -> None:
    moved, made, named = [1], [2], "x"
    numbers = {id(moved): 4, id(named): 7, id(made): 8}
    place = restored_place({4: 0, 7: 2}, frozenset({0}), lambda value: numbers.get(id(value)))
    assert [place(value) for value in (moved, made, named, 3)] == [0, None, None, None]


@pytest.mark.parametrize(
    ("initial", "captured", "expected"),
    [
        (_state(a=_list(0, _list(1), _list(2))), _state(a=_list(0, _list(1), _list(2))), {0: 0, 1: 1, 2: 2}),
        (_state(a=_list(0), b=_list(1)), _state(b=_list(0), a=_list(1)), {0: 1, 1: 0}),
        (_state(_list(0), _list(1)), _state(_list(4), _list(2)), {4: 0, 2: 1}),
        # An object that is met in another place first is restored into what was there.
        (_state(a=_list(0, {"again": 9}), b=_list(1)), _state(a=_list(0, _list(1)), b={"again": 1}), {0: 0}),
        (_state(a=_list(0, _list(1))), _state(a=_list(0)), {0: 0}),
        (
            _state(a=_dict(0, x=_list(1), y=_list(2))),
            _state(a=_dict(0, y=_list(1), x=_list(2))),
            {0: 0, 1: 2, 2: 1},
        ),
        (_state(a={"object": {"attributes": {"x": _list(1)}}, "#": 0}), _state(a=_list(0)), {0: 0}),
    ],
)
def test_places(initial: dict[str, Any], captured: dict[str, Any], expected: dict[int, int]) -> None:
    assert first_numbers(initial, captured) == expected


def test_what_is_restored_in_place() -> None:
    state = _state(a=_list(0, {"tensor": {}, "#": 1}, {"tuple": [{"variable": {}, "#": 3}], "#": 2}))
    assert restored_in_place(state) == {0, 3}
