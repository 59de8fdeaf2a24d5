"""What differs between two states, by name; and which of it is a time."""

from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import RecordError
from samebits.runner.checkpoint.process_state.clock_values import holds_time
from samebits.runner.checkpoint.state.state_comparison import StateDifference, state_differences


def _state(roots: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"objects": {"roots": [[name, item] for name, item in roots.items()], "globals": []}, "written": {}, **more}


def _object(kind: str = "m:K", **attributes: Any) -> dict[str, Any]:
    return {"object": {"class": kind, "attributes": attributes}, "#": 0}


def _float(value: float) -> dict[str, str]:
    return {"float": value.hex()}


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        (_state({"a": 1}), _state({"a": 1}), []),
        (_state({"a": 1}), _state({"a": True}), ["a"]),
        (_state({"a": _object(_rng=1, x=2)}), _state({"a": _object(_rng=3, x=4)}), ["a._rng", "a.x"]),
        (_state({"a": _object(x=1)}), _state({"a": _object()}), ["a.x"]),
        (_state({"a": _object(x=_float(1.0))}), _state({"a": _object(x=_float(2.0))}), ["a.x"]),
        (_state({"a": {"list": [1, 2]}}), _state({"a": {"list": [1, 2, 3]}}), ["a"]),
        (_state({"a": {"list": [1, 2]}}), _state({"a": {"tuple": [1, 2]}}), ["a"]),
        (_state({"a": 1, "b": 2}), _state({"a": 1}), ["b"]),
        (_state({}, feed={"drawn": 1}), _state({}, feed={"drawn": 2}), ["the position in the data"]),
        (_state({}, other=[1, (2, 3)]), _state({}, other=[1, (2, 3)]), []),
        (_state({}, other=1), _state({}), ["other"]),
    ],
)
def test_names(one: dict[str, Any], other: dict[str, Any], names: list[str]) -> None:
    assert [found.name for found in state_differences(one, other, {})] == names


def test_variables_have_their_live_names() -> None:
    class Variable:
        def __init__(self, name: str) -> None:
            self.name = name

    class Optimizer:
        variables = (Variable("iterations"), Variable("learning_rate"))

    def state(rate: str) -> dict[str, Any]:
        variables = [{"variable": {"in": "a"}, "#": 1}, {"variable": {"in": rate}, "#": 2}]
        return _state({"optimizer": {"optimizer": {"trained": [], "variables": variables, "built": True}}})

    (found,) = state_differences(state("b"), state("c"), {"optimizer": Optimizer()})
    assert found.name == "optimizer.learning_rate"


def test_numbers_of_objects() -> None:
    """They may differ; an object in the place of another may not. A reference may stand before its object."""

    def state(first: int, second: int, again: int) -> dict[str, Any]:
        return _state({"c": {"again": again}, "a": {"list": [], "#": first}, "b": {"list": [], "#": second}})

    assert not list(state_differences(state(1, 2, 1), state(5, 7, 5), {}))
    assert list(state_differences(state(1, 2, 1), state(5, 7, 7), {}))
    assert list(state_differences(_state({"a": {"again": 1}}), _state({"a": {"list": [], "#": 1}}), {}))


@pytest.mark.parametrize("state", [{}, {"objects": {}}, {"objects": {"roots": [1], "globals": []}}])
def test_a_malformed_state(state: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match=r"^the state of a checkpoint is malformed: "):
        list(state_differences(state, _state({"a": 1}), {}))


class Reads:
    """Its `seconds` are a time, `scale` is none, and `paused` is none either."""

    def read(self) -> None:
        import time

        self.seconds = time.perf_counter()

    def wait(self) -> None:
        import time

        time.sleep(0.0)
        self.paused = 1.0

    def count(self) -> None:
        self.scale = 1.0


@pytest.mark.parametrize(
    ("attribute", "one", "other", "expected"),
    [
        ("seconds", _float(1.0), _float(2.0), True),
        ("seconds", 10**18, 10**18 + 5, True),
        ("seconds", 3, 4, False),
        ("seconds", _float(1.0), None, False),
        ("scale", _float(1.0), _float(2.0), False),
        ("paused", _float(1.0), _float(2.0), False),
    ],
)
def test_times(attribute: str, one: Any, other: Any, expected: bool) -> None:
    holders = (f"{Reads.__module__}:Reads",)
    found = StateDifference(name="", one=one, other=other, holders=holders, attributes=("callback 0", attribute))
    assert holds_time(found, Path("/nowhere")) == expected
