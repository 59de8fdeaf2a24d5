"""What iterates over `samebits.checkpoint`: a `for` statement, or what begins again in a resumed run."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from samebits.runner.checkpoint.loop_statement import check_statement
from samebits.runner.checkpoint.loop_variables import loop_frames
from samebits.runner.checkpoint.state.encoding import UncapturableError


def rounds() -> Iterator[int]:
    """Iterate as `samebits.checkpoint` does."""
    check_statement(loop_frames(lambda name: name == __name__)[1:])  # without this one
    yield from range(3)


def handed_on(items: Iterable[int]) -> Iterator[int]:
    """A generator of the script."""
    yield from items


def doubled(items: Iterable[int]) -> Iterator[int]:
    """A generator of the script that iterates itself."""
    for item in items:
        yield 2 * item


def gone_through(items: Iterable[int]) -> list[int]:
    """What a `for` statement gets; it carries out a comprehension itself."""
    last = [-1]
    for item in items:
        last = [*[other for other in last if other >= 0], item]
    return last


def test_a_statement_may_iterate() -> None:
    kept = rounds()
    assert gone_through(kept) == [0, 1, 2]
    assert gone_through(handed_on(doubled(rounds()))) == [0, 2, 4]
    assert gone_through(item + 1 for item in rounds()) == [1, 2, 3]


def test_a_statement_that_python_specialized_may_iterate() -> None:
    for _ in range(20):
        gone_through(handed_on(doubled(range(3))))
    assert gone_through(handed_on(doubled(rounds()))) == [0, 2, 4]


CODES: dict[str, Callable[[], Any]] = {
    "a list": lambda: list(rounds()),
    "a sum": lambda: sum(item for item in rounds()),
    "next": lambda: next(rounds()),
    "a comprehension": lambda: [item + 1 for item in rounds()],
    "a set": lambda: {item + 1 for item in rounds()},
    "a dict": lambda: {item: 1 for item in rounds()},  # noqa: C420
    "unpacking": lambda: [*rounds()],
}


@pytest.mark.parametrize("what", CODES)
def test_what_collects_is_refused(what: str) -> None:
    with pytest.raises(UncapturableError, match=r"iterated by other code than a for statement; iterate by"):
        CODES[what]()


ITERATORS: dict[str, Callable[[], Iterator[Any]]] = {
    "enumerate": lambda: enumerate(rounds()),
    "zip": lambda: map(sum, zip(range(3), rounds(), strict=True)),
    "map": lambda: map(abs, rounds()),
    "islice": lambda: itertools.islice(rounds(), 2),
    "chain": lambda: itertools.chain([1], rounds()),
    "enumerate of a generator": lambda: enumerate(doubled(handed_on(rounds()))),
    "accumulate": lambda: itertools.accumulate(rounds()),
}


@pytest.mark.parametrize("what", ITERATORS)
def test_what_counts_is_refused(what: str) -> None:
    with pytest.raises(UncapturableError, match=f"iterated by {what.partition(' ')[0]}, which begins again"):
        gone_through(ITERATORS[what]())
