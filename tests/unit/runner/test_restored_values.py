"""Values come back from a checkpoint as they were and of the class that they were, or are refused before."""

import collections
import copy
import enum
import functools
import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samebits.runner.checkpoint.state.array_layout import restored_array
from samebits.runner.checkpoint.state.capture_code import CodeCapture
from samebits.runner.checkpoint.state.capture_containers import encode_container, with_class
from samebits.runner.checkpoint.state.encoding import Content, PathMap, UncapturableError, encoded_member, is_same
from samebits.runner.checkpoint.state.restorability import check_restorable
from samebits.runner.checkpoint.state.restore import StateRestorer


class What(enum.Flag):
    """Flags of a script."""

    LOSS = 1
    WEIGHTS = 2
    ALL = 3


FLAGS = (re.IGNORECASE, re.IGNORECASE | re.MULTILINE, re.NOFLAG)


def restored(encoded: Any, live: Any) -> Any:
    """What a checkpoint holds, restored where the script has `live`."""
    restorer = StateRestorer(Content(lambda _: b""), PathMap({"run": Path("/runs/a")}))
    return restorer.value(json.loads(json.dumps(encoded)), live, "a value")


def check(captured: Any, initial: Any) -> None:
    """Whether it could be."""
    check_restorable(*({"roots": [["a value", item]], "globals": []} for item in (captured, initial)))


@pytest.mark.parametrize("live", FLAGS)
@pytest.mark.parametrize("flags", [*FLAGS, ~re.ASCII])
def test_flags_together(flags: re.RegexFlag, live: re.RegexFlag) -> None:
    saved, initial = ({"member": encoded_member(member)} for member in (flags, live))
    check(saved, initial)
    found = restored(saved, live)
    assert (type(found), found) == (re.RegexFlag, flags)


def test_flags_of_a_script() -> None:
    for flags in (What.LOSS, What.LOSS | What.WEIGHTS, What(0)):
        assert restored({"member": encoded_member(flags)}, What.WEIGHTS) is flags
    assert encoded_member(What.LOSS | What.WEIGHTS)["name"] == "ALL"


def encoded(value: Any, where: str = "a value") -> Any:
    """As a checkpoint holds it."""
    if isinstance(value, (int, str)):
        return value
    code = CodeCapture(str(Path(__file__).parent), encoded, nullcontext)
    found = encode_container(value, where, encoded) or code.encode(value, where) or {}
    return {**found, "#": id(value)}


def bounded(most: int | None) -> collections.deque[int]:
    return collections.deque([1, 2, 3], most)


USUAL: list[Any] = [[1, 2, 3], {"a": 1}, bounded(None), {1, 2}]
SPECIAL: list[Any] = [
    bounded(2),
    bounded(3),
    collections.OrderedDict(a=1),
    collections.defaultdict(int, a=1),
    collections.defaultdict(list, a=1),
    collections.defaultdict(None, a=1),
]


def copies() -> list[Any]:
    """What a script may hold when it runs again."""
    return [copy.copy(value) for value in (*USUAL, *SPECIAL)]


@pytest.mark.parametrize("saved", USUAL, ids=repr)
def test_a_usual_container_takes_the_place_of_any_other(saved: Any) -> None:
    for live in copies():
        check(encoded(saved), encoded(live))
        alike = type(live) is type(saved) and "class" not in encoded(live)
        found = restored(encoded(saved), live)
        assert (type(found), repr(found)) == (type(saved), repr(saved))
        assert (found is live) == alike


@pytest.mark.parametrize("saved", SPECIAL, ids=repr)
def test_a_container_of_a_class_is_restored_into_one_of_it(saved: Any) -> None:
    refused = 0
    for live in copies():
        if encoded(live).get("class") == encoded(saved)["class"]:
            check(encoded(saved), encoded(live))
            assert restored(encoded(saved), live) is live
            assert repr(live) == repr(saved)
            continue
        refused += 1
        with pytest.raises(UncapturableError, match="during training, which a resumed run cannot create"):
            check(encoded(saved), encoded(live))
        with pytest.raises(UncapturableError, match=r"^a value is no .* when the script runs again"):
            restored(encoded(saved), live)
    assert refused == len(USUAL) + len(SPECIAL) - 1


def test_a_chain_of_mappings_is_walked_by_its_attributes() -> None:
    assert encode_container(collections.ChainMap({}, {"a": 1}), "a value", encoded) is None


class Rows(np.ndarray):  # type: ignore[misc]
    """An array with methods of its own, as a matrix is."""


def test_an_array_of_a_class_stays_one() -> None:
    live = np.zeros((2, 2)).view(Rows)
    for saved in (np.ones((2, 2)), np.ones((3, 3))):
        found = restored_array(saved, live)
        assert type(found) is Rows
        assert found.tolist() == saved.tolist()
    assert with_class({"array": {}}, live) == {"array": {}, "class": f"{__name__}:Rows"}
    assert with_class({"array": {}}, np.zeros(1)) == {"array": {}}


def scaled(by: Any, offset: int = 0) -> int:
    """What is called with some of its arguments."""
    return int(by) * 2 + offset


@pytest.mark.parametrize("live", [functools.partial(scaled, 1000), functools.partial(scaled, 7, offset=1)])
@pytest.mark.parametrize("saved", [functools.partial(scaled, 1000), functools.partial(scaled, "8", offset=2)])
def test_a_partial_function_with_other_arguments(saved: Any, live: Any) -> None:
    state = encoded(saved)
    check(state, encoded(live))
    found = restored(state, live)
    assert (found.func, found.args, found.keywords) == (saved.func, saved.args, saved.keywords)
    assert (found is live) == (repr(saved) == repr(live))


def test_lambdas_of_one_name_are_different_functions() -> None:
    one, other = (lambda: 1), (lambda: 2)
    check(encoded(one), encoded(one))
    assert restored(encoded(one), one) is one
    with pytest.raises(UncapturableError, match="was created during training; create it before"):
        check(encoded(other), encoded(one))
    with pytest.raises(UncapturableError, match="was created during training; create it before"):
        restored(encoded(other), one)


class Held:
    """Attributes of a script's object."""

    __slots__ = ("__dict__", "slot")
    kept = 1

    def __delattr__(self, name: str) -> None:
        raise AttributeError(name)


@pytest.mark.parametrize("ours", [True, False])
def test_an_attribute_that_was_deleted(*, ours: bool) -> None:
    name = f"{__name__}:Held"
    states = [
        {"object": {"class": name, "attributes": attributes, "ours": ours, "of": []}, "#": 0}
        for attributes in ({"kept": 2}, {"gone": None, "kept": 2, "slot": 3})
    ]
    check(*states)
    live = Held()
    live.gone, live.kept, live.slot = None, 2, 3  # type: ignore[attr-defined]
    for _ in range(2):
        assert restored(states[0], live) is live
        assert (hasattr(live, "gone"), hasattr(live, "slot"), live.kept) == (not ours, not ours, 2)


def test_what_is_the_same() -> None:
    assert is_same(1.0, float("1"))
    assert is_same("a" * 99, "".join(["a"] * 99))
    assert not is_same(1, True)
    assert not is_same(0.0, -0.0)
    assert not is_same([], [])
