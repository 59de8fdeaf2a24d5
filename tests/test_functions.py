"""Whether a function draws from a random generator that belongs to nobody."""

import random
from random import random as drawn
from typing import Any

import numpy as np
import numpy.random as npr
import pytest

from samebits.container import functions


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


def _nothing(index: int) -> Any:
    return np.arange(index).mean()


@pytest.mark.parametrize("function", [_own, _own_of_python, _own_with_bits, _nothing])
def test_draws_nothing_that_others_share(function: Any) -> None:
    assert not functions.draws(function)
