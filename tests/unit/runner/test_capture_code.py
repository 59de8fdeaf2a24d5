"""What the capture of functions and classes reaches."""

import functools
import importlib
import inspect
import itertools
import operator
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from samebits.runner.checkpoint.state.capture_code import CodeCapture
from samebits.runner.checkpoint.state.code_inspection import global_names, methods_of
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.checkpoint.state.restorability import check_restorable

_COUNTED = [0]


class Holder:
    """Functions inside of descriptors."""

    @property
    def number(self) -> int:
        return 0

    @number.setter
    def number(self, value: int) -> None:
        _COUNTED[0] += value

    @functools.cached_property
    def made(self) -> int:
        return len(_COUNTED)

    def count(self, held: list[int]) -> int:
        held[0] += 1
        return held[0]

    counting = functools.partialmethod(count, [0])


def captured() -> tuple[CodeCapture, list[Any]]:
    """A capture of this module's code, and the values that it hands on, with whether iterators are refused there."""
    found: list[Any] = []
    strict = [False]

    @contextmanager
    def strictly() -> Iterator[None]:
        strict[0], before = True, strict[0]
        yield
        strict[0] = before

    def encode(value: Any, where: str) -> Any:
        found.append((value, strict[0]))
        return {"constant": where}

    code = CodeCapture(str(Path(__file__).parent), encode, strictly)
    return code, found


def test_a_method_in_c_holds_its_object() -> None:
    count = itertools.count()
    code, found = captured()
    assert code.encode(count.__next__, "f") == {"method": {"name": "__next__", "of": {"constant": "f"}}}
    assert found == [(count, True)]


def test_what_a_partial_function_holds_is_looked_at_closely() -> None:
    numbers = iter([1])
    code, found = captured()
    code.encode(functools.partial(next, numbers), "f")
    code.encode(vars(Holder)["counting"], "f")
    assert ((numbers,), True) in found
    assert (([0],), True) in found


def test_functions_inside_of_descriptors_are_methods() -> None:
    methods = [*methods_of(Holder)]
    assert [function.__name__ for function in methods] == ["number", "number", "made", "count", "count"]
    assert sum("_COUNTED" in global_names(function.__code__) for function in methods) == 2


def test_what_a_callback_of_keras_was_given_must_be_restored() -> None:
    def callback(held: str) -> dict[str, Any]:
        inner = {"object": {"class": "a:Hook", "attributes": {"held": {"unsaved": ["x", held]}}, "ours": True}}
        outer = {"class": "keras:LambdaCallback", "attributes": {"hook": {"method": {"name": "f", "of": inner}}}}
        return {"roots": [["callback 0", {"object": {**outer, "ours": False}}]], "globals": []}

    check_restorable(callback("one"), callback("one"))
    with pytest.raises(UncapturableError, match=r"hook\.held .* changed during training"):
        check_restorable(callback("one"), callback("other"))


def _uses_the_global() -> int:
    return [lambda: _COUNTED[0]][0]()


def _uses_an_attribute(held: Any) -> Any:
    return held._COUNTED


def _sets_it() -> None:
    global _NUMBER  # noqa: PLW0603
    _NUMBER += 1


def _of_this_module() -> Any:
    return sys.modules[__name__]._COUNTED, HERE._NUMBER


def _by_the_table() -> Any:
    return sys.modules["another name for it"]._NUMBER


def _by_import() -> Any:
    return importlib.import_module(str(Path(__file__).stem))._NUMBER


def _by_a_frame() -> Any:
    return sys._getframe().f_globals["_NUMBER"]


def _by_a_function() -> Any:
    return _sets_it.__globals__["_NUMBER"]


def _by_an_object() -> Any:
    return getattr(inspect.getmodule(Holder), f"_{Holder.__name__}")


def _by_a_name_alone(held: Any) -> Any:
    return held.modules["_COUNTED"], "_NUMBER"


_NUMBER = 0
HERE = sys.modules[__name__]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (_uses_the_global, {"_COUNTED"}),
        (_uses_an_attribute, set()),
        (_sets_it, {"_NUMBER"}),
        (_of_this_module, {"_COUNTED", "_NUMBER", "HERE"}),
        (_by_the_table, {"_NUMBER"}),
        (_by_import, {"_NUMBER"}),
        (_by_a_frame, {"_NUMBER"}),
        (_by_a_function, {"_NUMBER"}),
        (_by_an_object, {"_COUNTED", "_NUMBER"}),
        (_by_a_name_alone, set()),
    ],
)
def test_an_attribute_is_no_global_of_the_same_name(function: Any, expected: set[str]) -> None:
    code, _ = captured()
    code.encode(function, "f")
    assert {name for _, name in code.globals if name in {"_COUNTED", "_NUMBER", "HERE"}} == expected


class Shuffled:
    """A data set that draws at the end of an epoch, and things that call its methods at another time."""

    def __init__(self) -> None:
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        self.order = random.random()

    def read(self, index: int) -> int:
        return index

    def noisy(self, index: int) -> float:
        return index + random.random()

    def again(self) -> None:
        self.on_epoch_end()

    def another(self) -> "Shuffled":
        return Shuffled()

    def by_name(self, name: str) -> None:
        getattr(self, name)()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Shuffled.read, False),
        (Shuffled.noisy, True),
        (Shuffled.again, True),
        (Shuffled.another, True),
        (Shuffled.by_name, True),
    ],
)
def test_what_draws_outside_of_some_methods(method: Any, expected: bool) -> None:
    alone: frozenset[Any] = frozenset({Shuffled.__init__, Shuffled.on_epoch_end})
    code, _ = captured()
    for function in (*alone, method):
        code.encode(function, "f")
    assert code.draws
    assert code.draws_beside(alone) == expected
    assert code.draws_beside(frozenset())


class Drawing(Shuffled):
    """A data set with a generator of its own."""

    rng: random.Random

    def read(self, index: int) -> int:
        return index

    def direct(self, index: int) -> float:
        return index + self.rng.random()

    def by_text(self, index: int) -> float:
        return index + float(operator.attrgetter("rng")(self).random())


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Drawing.read, False),
        (Drawing.direct, True),
        (Drawing.by_text, True),
        (Drawing.again, True),
        (Drawing.another, True),
        (Drawing.by_name, True),
    ],
)
def test_what_reaches_a_generator_in_an_attribute(method: Any, expected: bool) -> None:
    alone: frozenset[Any] = frozenset({Shuffled.__init__, Shuffled.on_epoch_end})
    code, _ = captured()
    for function in (*alone, method):
        code.encode(function, "f")
    assert code.draws_beside(alone, {"rng"}) == expected
