"""The differences between two checkpoints of one position, and whether training uses them."""

import re
from dataclasses import replace
from typing import Any

import pytest

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.host.rerun.state_diff import StateDiff, compare_states

_STATE: dict[str, Any] = {
    "feed": {"drawn": None},
    "objects": {
        "roots": [
            ["model", {"layer": {"variables": [{"variable": {"in": "AAAA"}, "#": 1}], "attributes": {}}, "#": 0}],
            ["callback 0 (Clock)", {"object": {"class": "Clock", "attributes": {"a": 1, "b": [2]}}, "#": 2}],
            ["x", {"object": {"class": "Data", "attributes": {"epoch": 1}}, "#": 4}],
            ["random generator of Python", {"python_random": [3, [1, 2], None], "#": 5}],
        ],
        "globals": [["__main__", "best", {"float": "0x1p+0"}]],
    },
    "written": {"files": [["a.txt", 420, "sha256:1"]], "folders": [], "links": [], "open": [["a.txt", 7]]},
}


def _checkpoint(state: dict[str, Any]) -> Checkpoint:
    digest = Digest.of_bytes(b"")
    return Checkpoint(position=Position(phase=0, epoch=1), recipe=digest, lines=1, last=digest, state=state)


def _with(number: int, encoded: Any) -> dict[str, Any]:
    roots = [[name, encoded if index == number else item] for index, (name, item) in enumerate(_roots())]
    return {**_STATE, "objects": {**_STATE["objects"], "roots": roots}}


def _roots() -> list[list[Any]]:
    return list(_STATE["objects"]["roots"])


_MODEL = {"layer": {"variables": [{"variable": {"in": "BAAA"}, "#": 1}], "attributes": {}}, "#": 0}
_CLOCK = {"object": {"class": "Clock", "attributes": {"a": 1, "b": [3], "c": 4}}, "#": 2}
_DATA = {"object": {"class": "Data", "attributes": {"epoch": 2}}, "#": 4}
_GLOBALS = {**_STATE["objects"], "globals": [["__main__", "best", {"float": "0x2p+0"}]]}
_NUMBERED = [[name, {**item, "#": item["#"] + 3}] for name, item in _roots()]


@pytest.mark.parametrize(
    ("state", "training", "own"),
    [
        (_STATE, (), ()),
        ({**_STATE, "feed": {"drawn": 1}}, ("feed",), ()),
        ({name: item for name, item in _STATE.items() if name != "feed"}, ("feed",), ()),
        (_with(0, _MODEL), ("model",), ()),
        (_with(0, _CLOCK), ("model.a", "model.b", "model.c"), ()),
        (_with(1, _CLOCK), (), ("callback 0 (Clock).b", "callback 0 (Clock).c")),
        (_with(1, {"float": "0x1p+0"}), (), ("callback 0 (Clock).a", "callback 0 (Clock).b")),
        (_with(2, _DATA), ("x.epoch",), ()),
        (_with(3, {"python_random": [3, [1, 3], None], "#": 5}), ("random generator of Python",), ()),
        ({**_STATE, "objects": _GLOBALS}, (), ("__main__.best",)),
        ({**_STATE, "objects": {**_STATE["objects"], "roots": _NUMBERED}}, (), ()),
        ({**_STATE, "written": {**_STATE["written"], "files": []}}, (), ("output file a.txt",)),
        ({**_STATE, "written": {**_STATE["written"], "open": []}}, (), ("the output folder",)),
        ({**_STATE, "written": {**_STATE["written"], "times": [1], "ignored": [1]}}, (), ()),
    ],
)
def test_ends(state: dict[str, Any], training: tuple[str, ...], own: tuple[str, ...]) -> None:
    one = _checkpoint(_STATE)
    assert compare_states(one, replace(one, state=state)) == StateDiff(training=training, own=own)


_GENERATOR = {"numpy_generator": {"dict": []}, "#": 9}
_HELD = {"object": {"class": "Clock", "attributes": {"a": 1, "b": [2], "held": {"list": [_GENERATOR]}}}, "#": 2}


def test_a_generator_counts_wherever_it_is_held() -> None:
    one = _checkpoint(_STATE)
    other = replace(one, state=_with(1, _HELD))
    assert compare_states(one, other) == StateDiff(training=("callback 0 (Clock).held",))


_DEEP: Any = 0
for _ in range(300):
    _DEEP = [_DEEP]


@pytest.mark.parametrize(
    "state",
    [
        {},
        {**_STATE, "objects": 3},
        {**_STATE, "objects": {}},
        {**_STATE, "objects": {"roots": [["a"]], "globals": []}},
        {**_STATE, "objects": {"roots": [["a", {"object": 3}]], "globals": []}},
        _with(1, {"object": {"attributes": [1]}}),
        _with(1, {"object": {"attributes": {"a": _DEEP}}}),
        {**_STATE, "written": 3},
        {**_STATE, "written": {"files": [1]}},
        {**_STATE, "written": {"files": [[1, 2], ["a", 3]]}},
    ],
)
def test_what_no_checkpoint_holds(state: dict[str, Any]) -> None:
    """It differs, or is one error; never a traceback."""
    one = _checkpoint(_STATE)
    for pair in ((one, replace(one, state=state)), (replace(one, state=state), one)):
        try:
            assert compare_states(*pair) != StateDiff()
        except RecordError as error:
            assert re.match(r"(missing value in )?'state", str(error))  # noqa: PT017
