"""Whether a function draws from a random generator that belongs to nobody."""

import random
import sys
import types
from random import random as drawn
from typing import Any

import numpy as np
import numpy.random as npr
import pytest

from samebits.runner.checkpoint.state import code_inspection as functions


def _of_python() -> Any:
    return random.random()


def _of_numpy() -> Any:
    return np.random.normal(size=3)


def _under_another_name() -> Any:
    return npr.permutation(3)


def _seeds() -> Any:
    np.random.seed(3)


def _by_its_name() -> Any:
    return drawn()


def _inside() -> Any:
    return [lambda: random.choice("ab")]


def _imports() -> Any:
    from random import randrange

    return randrange(3)


def _imports_numpy() -> Any:
    import numpy.random

    return numpy.random.normal()


def _imports_within() -> Any:
    import numpy as np

    return np.random.normal()


def _from_numpy() -> Any:
    from numpy import random as r

    return r.normal()


def _under_a_name_of_its_own() -> Any:
    r = np.random
    return r.normal()


def _by_text() -> Any:
    return getattr(np, "random").normal()  # noqa: B009


def _in_a_class() -> Any:
    class Inner:
        drawn = np.random.normal()

    return Inner


def _of_images(tf: Any = None) -> Any:
    return tf.image.random_flip_left_right(1)


def _beside(value: Any) -> Any:
    return value + npr.normal()


def _closing(np: Any) -> Any:
    def draw() -> Any:
        return np.random.normal()

    return draw


_many = {"np": np}
exec("def f():\n" + "".join(f"    a{n} = b{n}\n" for n in range(300)) + "    return np.random.normal()\n", _many)


@pytest.mark.parametrize(
    "function",
    [
        _imports_within,
        _from_numpy,
        _under_a_name_of_its_own,
        _by_text,
        _in_a_class,
        _of_images,
        _beside,
        _closing(np),
        _many["f"],
    ],
)
def test_draws_in_other_words(function: Any) -> None:
    assert functions.draws(function)


@pytest.mark.parametrize(
    "function",
    [_of_python, _of_numpy, _under_another_name, _seeds, _by_its_name, _inside, _imports, _imports_numpy],
)
def test_draws(function: Any) -> None:
    assert functions.draws(function)


def _own(index: int) -> Any:
    return np.random.default_rng([3, index]).normal(size=3)


def _own_of_python(index: int) -> Any:
    return random.Random(index).random()


def _own_with_bits(index: int) -> Any:
    return np.random.Generator(np.random.Philox(index)).random()


def _own_by_a_name(index: int) -> Any:
    rng = np.random.default_rng([3, index])
    return rng.random(3) + rng.normal()


def _nothing(index: int) -> Any:
    return np.arange(index).mean()


@pytest.mark.parametrize("function", [_own, _own_of_python, _own_with_bits, _own_by_a_name, _nothing])
def test_draws_nothing_that_others_share(function: Any) -> None:
    assert not functions.draws(function)


@pytest.mark.parametrize(("file", "expected"), [("/run/work/a.py", True), ("/run/work-2/a.py", False), (None, False)])
def test_a_module_belongs_to_the_script_by_its_folder(
    file: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("own")
    module.__file__ = file
    monkeypatch.setitem(sys.modules, "own", module)
    assert functions.is_ours("own", "/run/work") == expected
    assert functions.is_ours("__main__", "/run/work")
