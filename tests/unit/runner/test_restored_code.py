"""What a script replaces in code comes back, or is refused by name: methods, default arguments, classes, references."""

import enum
import gc
import json
import sys
import types
import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from samebits.runner.checkpoint.state import encoding
from samebits.runner.checkpoint.state.capture_code import CodeCapture
from samebits.runner.checkpoint.state.capture_containers import encode_container
from samebits.runner.checkpoint.state.encoding import Content, PathMap, UncapturableError, encoded_member
from samebits.runner.checkpoint.state.restorability import check_restorable
from samebits.runner.checkpoint.state.restore import StateRestorer


@pytest.fixture(autouse=True)
def _script(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module is the script, and has no layers."""
    monkeypatch.setattr(encoding, "_LIBRARIES", (__name__.partition(".")[0],))
    kinds = {"layers": "Layer", "metrics": "Metric", "losses": "Loss", "optimizers": "Optimizer"}
    parts = {name: types.SimpleNamespace(**{kind: type(kind, (), {})}) for name, kind in kinds.items()}
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(**parts))


class Counter:
    """An object with methods."""

    def __init__(self, start: int) -> None:
        self.start = start

    def one(self) -> int:
        return self.start + 1

    def two(self) -> int:
        return self.start + 2


def outside(counter: Counter) -> int:
    return counter.start + 100


def scaled(value: int, by: int = 2, *, offset: int = 0) -> int:
    return value * by + offset


class Mode(enum.Enum):
    """A choice."""

    A = 1
    B = 2


class Walk:
    """Numbers objects as a capture does, so that a restorer finds them again."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.alive: list[Any] = []

    def __call__(self, value: Any, where: str = "a value") -> Any:
        if isinstance(value, (int, str)) or value is None:
            return value
        if isinstance(value, enum.Enum):
            return {"member": encoded_member(value)}
        if id(value) in self.numbers:
            return {"again": self.numbers[id(value)]}
        self.numbers[id(value)] = number = len(self.numbers)
        self.alive.append(value)
        return {**self._found(value, where), "#": number}

    def _found(self, value: Any, where: str) -> Any:
        if isinstance(value, weakref.ref):
            return {"weak": self(value(), where)}
        if type(value) is type and value in (int, float):
            return {"constant": f"builtins:{value.__name__}"}
        code = CodeCapture(str(Path(__file__).parent), self, nullcontext)
        found = encode_container(value, where, self) or code.encode(value, where)
        if found is not None:
            return found
        name = f"{__name__}:{type(value).__qualname__}"
        attributes = {key: self(item, f"{where}.{key}") for key, item in vars(value).items()}
        return {"object": {"class": name, "attributes": attributes, "ours": True, "of": []}}


def resumed(saved: Any, live: Any, initial: Any = None) -> Any:
    """What was `saved`, restored into what the script makes again; it must be restorable into the `initial` one."""
    encoded = Walk()(saved)
    states = (encoded, Walk()(live if initial is None else initial))
    check_restorable(*({"roots": [["a value", state]], "globals": []} for state in states))
    restorer = StateRestorer(Content(lambda _: b""), PathMap({"run": Path("/runs/a")}))
    return restorer.value(json.loads(json.dumps(encoded)), live, "a value")


def counters() -> list[Any]:
    held: list[Any] = [Counter(10), Counter(20)]
    return [*held, held[0].one]


@pytest.mark.parametrize("change", ["name", "owner", "function", "none"])
def test_a_method_of_the_object_that_it_belonged_to(change: str) -> None:
    saved, live = counters(), counters()
    if change == "name":
        saved[2] = saved[0].two
    elif change == "owner":
        saved[2] = saved[1].one
    elif change == "function":
        saved[2] = outside.__get__(saved[0])
    known = live[2]
    found = resumed(saved, live)
    assert found[2]() == saved[2]()
    assert found[2].__self__ is live[change == "owner"]
    assert (found[2] is known) == (change == "none")


def test_default_arguments_that_were_replaced() -> None:
    defaults = scaled.__defaults__, dict(scaled.__kwdefaults__ or {})
    try:
        scaled.__defaults__, scaled.__kwdefaults__ = (5,), {"offset": 7}
        encoded = Walk()(scaled)
        scaled.__defaults__, scaled.__kwdefaults__ = defaults
        restorer = StateRestorer(Content(lambda _: b""), PathMap({"run": Path("/runs/a")}))
        assert restorer.value(encoded, scaled, "a value")(1) == 12
    finally:
        scaled.__defaults__, scaled.__kwdefaults__ = defaults


def kind() -> type:
    class Kind:
        """A class of a script."""

        size = 1
        gone = 2

        def go(self) -> int:
            return 1

    return Kind


def test_a_class_whose_attributes_changed() -> None:
    saved, live = kind(), kind()
    saved.size, saved.more = 5, 6  # type: ignore[attr-defined]
    del saved.gone  # type: ignore[attr-defined]
    assert resumed(saved, live, kind()) is live
    assert {name: item for name, item in vars(live).items() if isinstance(item, int)} == {"size": 5, "more": 6}


def test_a_class_within_a_class() -> None:
    class Outer:
        Inner = kind()

    class Again:
        Inner = kind()

    Again.__qualname__ = Outer.__qualname__
    Outer.Inner.size = 9  # type: ignore[attr-defined]
    resumed(Outer, Again)
    assert Again.Inner.size == 9  # type: ignore[attr-defined]


def test_a_class_with_another_method_is_refused() -> None:
    saved = kind()
    saved.go = outside  # type: ignore[attr-defined]
    with pytest.raises(UncapturableError, match=r"^go of a value got other code during training"):
        resumed(saved, kind())


def test_another_class_is_refused() -> None:
    with pytest.raises(UncapturableError, match=r"^a value became another class, .*:Counter, during training"):
        resumed(Counter, kind())


def test_a_function_with_other_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Walk()(scaled)
    monkeypatch.setattr(scaled, "__code__", (lambda value, by=2, *, offset=0: value - by - offset).__code__)
    states = ({"roots": [["a value", state]], "globals": []} for state in (Walk()(scaled), before))
    with pytest.raises(UncapturableError, match=r"(created|got other code) during training"):
        check_restorable(*states)


def referring(to: int | None) -> list[Any]:
    held: list[Any] = [Counter(1), Counter(2)]
    return [*held, weakref.ref(Counter(3) if to is None else held[to])]


@pytest.mark.parametrize("live", [0, 1, None])
@pytest.mark.parametrize("saved", [0, 1, None])
def test_a_weak_reference(saved: int | None, live: int | None) -> None:
    gc.collect()
    again = referring(live)
    found = resumed(referring(saved), again)
    assert found[2]() is (None if saved is None else again[saved])


def test_a_weak_reference_with_a_callback_is_refused() -> None:
    saved = {"weak": None, "class": "weakref:ReferenceType", "#": 0}
    states = ({"roots": [["a value", state]], "globals": []} for state in (saved, {"weak": None, "#": 0}))
    with pytest.raises(UncapturableError, match="during training, which a resumed run cannot create"):
        check_restorable(*states)


MEMBERS = {Mode.A, Mode.B, int}


def test_a_set_of_what_the_script_makes_stays_as_it_is() -> None:
    live = MEMBERS.copy()
    assert resumed(MEMBERS, live) is live
    assert live == MEMBERS
    with pytest.raises(UncapturableError, match=r"^a value is a set that changed during training"):
        resumed({Mode.A}, {Mode.B})
    with pytest.raises(UncapturableError, match=r"^a value is a set that changed during training"):
        resumed({1, Mode.A}, {2, Mode.A})


def test_a_set_of_objects() -> None:
    one = {Counter(1)}
    assert resumed({Counter(1)}, one) is one
    with pytest.raises(UncapturableError, match=r"^a value is a set that changed during training"):
        resumed({Counter(2)}, one)
    with pytest.raises(UncapturableError, match=r"^a value is a set that alone holds objects"):
        resumed({Counter(1), Counter(2)}, {Counter(1), Counter(2)})
    listed = [Counter(1), Counter(2)]
    found = resumed([*listed, {listed[1]}], [*listed, {listed[0]}])
    assert found[2] == {listed[1]}


def test_a_set_that_cannot_be_filled_again_must_not_change() -> None:
    def popped() -> set[int]:
        found = {1, 2, 3}
        found.pop()
        return found

    live = popped()
    assert resumed(popped(), live) is live
    with pytest.raises(UncapturableError, match=r"^a value is a set that changed during training"):
        resumed(popped(), {2, 3})


def test_members_that_are_keys() -> None:
    live = {Mode.A: [1], Mode.B: [2]}
    assert resumed({Mode.B: [3]}, live) is live
    assert live == {Mode.B: [3]}
    with pytest.raises(UncapturableError, match=r"^a key of a value became .*:Mode during training"):
        resumed({Mode.A: 1}, {})


class Layer:
    """Stands for a layer of Keras."""

    def __init__(self, name: str) -> None:
        self.name = name


def test_layers_that_are_keys() -> None:
    state = {"dict": [[{"layer": {"name": "dense_1"}, "#": 1}, 5]], "#": 0}
    live = {Layer("dense"): 1, Layer("dense_1"): 2}
    second = [*live][1]
    restorer: Any = StateRestorer(Content(lambda _: b""), PathMap({"run": Path("/runs/a")}))
    restorer._layer = lambda _, found, __: found
    assert restorer.value(state, live, "a value") == {second: 5}


def test_a_new_container_that_holds_itself() -> None:
    items: list[Any] = []
    items.append(items)
    mapping: dict[str, Any] = {}
    mapping["x"] = mapping
    found = resumed([items, mapping], [None, None])
    assert found[0][0] is found[0]
    assert found[1]["x"] is found[1]


def shared(states: list[Any]) -> None:
    check_restorable(*({"roots": [["a value", {"numpy_generator": state, "#": 0}]], "globals": []} for state in states))


def test_generators_that_begin_to_share_their_bits_are_refused() -> None:
    alone: dict[str, Any] = {"state": {}, "seeds": None}
    sharing = {**alone, "shares": "c.a"}
    shared([alone, alone])
    shared([sharing, sharing])
    with pytest.raises(UncapturableError, match=r"^a value shares the bits of c\.a since training began"):
        shared([sharing, alone])


def test_the_order_of_attributes() -> None:
    def item(*names: str) -> Any:
        content = {
            "class": f"{__name__}:Counter",
            "attributes": dict.fromkeys(sorted(names), 1),
            "ours": True,
            "of": [],
        }
        return {"object": {**content, "order": [*names]}, "#": 0}

    for first, second, kept in ((("b", "a"), ("b", "a"), False), (("b",), ("b", "z", "a"), True)):
        saved = item(*second)
        check_restorable(*({"roots": [["a value", state]], "globals": []} for state in (saved, item(*first))))
        assert ("order" in saved["object"]) == kept
        live = Counter(1)
        vars(live).clear()
        vars(live).update(dict.fromkeys(first, 0))
        restorer = StateRestorer(Content(lambda _: b""), PathMap({"run": Path("/runs/a")}))
        assert [*vars(restorer.value(saved, live, "a value"))] == [*second]
