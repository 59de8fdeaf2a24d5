"""Arrays that share memory share it again in a resumed run, or are refused."""

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from samebits.runner.checkpoint.state.array_parts import mark_parts, part_of
from samebits.runner.checkpoint.state.encoding import PART, UncapturableError


class Captured:
    """Arrays that a walk has visited, by their places."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._visits = [(value, where) for where, value in arrays.items()]
        self.nodes: list[dict[str, Any]] = [{"array": {}, "#": number} for number in range(len(self._visits))]

    def visited(self, number: int) -> tuple[Any, str]:
        return self._visits[number]


def parts(arrays: Mapping[str, Any], initial: Mapping[str, Any]) -> list[Any]:
    """The marks of these arrays, of which those in `initial` were there when training began."""
    captured: Any = Captured(arrays)
    places = {id(value): where for where, value in initial.items()}
    mark_parts(captured.nodes, captured, lambda value: places.get(id(value)))
    return [json.loads(json.dumps(node.get(PART))) for node in captured.nodes]


WHOLE = np.arange(6.0)


@pytest.mark.parametrize("part", [WHOLE[2:4], WHOLE[::-2], WHOLE.reshape(2, 3).T, WHOLE[1:].view("int32")])
def test_a_new_part_of_an_initial_array(part: Any) -> None:
    mark = parts({"a": part, "b": WHOLE}, {"b": WHOLE})
    assert [item is not None for item in mark] == [True, False]
    place, offset = mark[0]
    assert place == "b"
    live = WHOLE.copy()
    found = part_of(live, offset, _saved(part))
    live[3] = 50
    again = WHOLE.copy()
    again[3] = 50
    assert np.shares_memory(found, live)
    expected = np.ndarray(part.shape, part.dtype, again, max(0, offset), part.strides)
    assert np.array_equal(found, expected)


def _saved(part: Any) -> Any:
    """As `Content.array` makes it: a copy with the same steps in memory."""
    found = np.ndarray(part.shape, part.dtype, np.zeros(48, "uint8"), 40 if part.strides[0] < 0 else 0, part.strides)
    found[...] = part
    return found


def test_a_new_part_of_a_part() -> None:
    middle, last = WHOLE[1:5], WHOLE[4:]
    assert parts({"a": last, "b": middle}, {"b": middle}) == [["b", 24], None]
    live = np.arange(6.0)
    found = part_of(live[1:5], 24, last.copy())
    found += 1
    assert live.tolist() == [0, 1, 2, 3, 5, 6]


def test_arrays_that_share_no_memory() -> None:
    assert parts({"a": WHOLE[:3], "b": WHOLE[3:]}, {"b": WHOLE[3:]}) == [None, None]
    assert parts({"a": WHOLE.copy(), "b": WHOLE}, {"b": WHOLE}) == [None, None]
    table = WHOLE.reshape(3, 2)
    assert parts({"a": table[:, 0], "b": table[:, 1]}, {}) == [None, None]


def test_many_parts() -> None:
    rows = np.zeros((20_000, 2))
    begun = time.process_time()
    assert not any(parts({str(number): row for number, row in enumerate(rows)}, {}))
    assert time.process_time() - begun < 5


def test_two_new_arrays() -> None:
    assert parts({"a": WHOLE, "b": WHOLE[2:4]}, {}) == [None, [0, 16]]
    table = WHOLE.reshape(2, 3)
    assert parts({"a": table.T, "b": table[:, 1:]}, {}) == [None, [0, 8]]
    with pytest.raises(UncapturableError, match=r"^b shares memory with a"):
        parts({"a": table[:, :2], "b": table[:, 1:]}, {})
    with pytest.raises(UncapturableError, match=r"^b shares memory with a since training began"):
        parts({"a": WHOLE[2:4], "b": WHOLE}, {})
    with pytest.raises(UncapturableError, match=r"^b shares memory with a"):
        parts({"a": WHOLE[:4], "b": WHOLE[2:]}, {})


def test_a_part_that_is_initial_stays_as_it_is() -> None:
    part = WHOLE[2:4]
    assert parts({"a": part, "b": WHOLE}, {"a": part, "b": WHOLE}) == [None, None]


def test_another_array_in_the_resumed_run_is_too_small() -> None:
    with pytest.raises(UncapturableError, match="too small"):
        part_of(np.arange(2.0), 24, np.arange(3.0))
