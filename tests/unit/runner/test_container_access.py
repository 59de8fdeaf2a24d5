"""Containers are read and filled without code of their classes, and sets get the order that they had."""

import collections
import random
from typing import Any, Self

import pytest

from samebits.runner.checkpoint.state.container_access import (
    items_of,
    pairs_of,
    refill_mapping,
    refill_sequence,
    refill_set,
    refilled_tuple,
    set_order,
)


class Doubling(dict[str, int]):
    """A dict of a script that changes what it is given, and what it gives."""

    def __setitem__(self, key: str, value: int) -> None:
        super().__setitem__(key, value * 2)

    def items(self) -> Any:
        return [(key, 0) for key in self]

    def clear(self) -> None:
        raise AssertionError


class Adding(list[int]):
    """A list of a script that does."""

    def __setitem__(self, key: Any, value: Any) -> None:
        raise AssertionError

    def __iter__(self) -> Any:
        return iter([0])


class Queue(collections.deque[int]):
    """A deque that does."""

    def extend(self, _: Any) -> None:
        raise AssertionError


class Pair(tuple[int, ...]):
    """A tuple that does."""

    __slots__ = ()

    def __new__(cls, one: int) -> Self:
        return super().__new__(cls, (one, one))


def test_code_of_a_script_is_not_called() -> None:
    mapping, items, queue = Doubling(), Adding([1, 2]), Queue([1])
    refill_mapping(mapping, [("b", 1), ("a", 2)])
    assert pairs_of(mapping) == [("b", 1), ("a", 2)]
    refill_mapping(mapping, [("a", 2)])
    assert pairs_of(mapping) == [("a", 2)]
    refill_sequence(items, [5, 6, 7])
    assert items_of(items) == [5, 6, 7]
    refill_sequence(queue, [8, 9])
    assert items_of(queue) == [8, 9]
    pair = refilled_tuple(Pair(1), [1, 3], Pair)
    assert (type(pair), items_of(pair)) == (Pair, [1, 3])


def test_an_ordered_dict_stays_ordered() -> None:
    mapping = collections.OrderedDict(a=1, b=2)
    refill_mapping(mapping, [("b", 2), ("a", 1), ("c", 3)])
    assert ([*mapping], [*reversed(mapping)]) == (["b", "a", "c"], ["c", "a", "b"])
    assert mapping.popitem() == ("c", 3)


@pytest.mark.parametrize(("one", "other"), [(1, True), (0.0, -0.0), ((1,), (True,)), (1, 1.0)])
def test_equal_keys_may_differ(one: Any, other: Any) -> None:
    mapping = {one: "a"}
    refill_mapping(mapping, [(other, "a")])
    assert repr(mapping) == repr({other: "a"})


def changed(number: int) -> set[int]:
    """A set that was made and changed in one of several ways."""
    rng = random.Random(number)
    found = set(rng.sample(range(1000), 9)) if number % 2 else {1, 2, 3, 4, 5}
    for _ in range(rng.randrange(40)):
        change = rng.randrange(6)
        if change == 0:
            found = found | {rng.randrange(1000)}
        elif change == 1 and found:
            found.discard(rng.choice([*found]))
        elif change == 2 and found:
            found.pop()
        else:
            found.add(rng.randrange(1000))
    return found


def test_a_set_has_its_order_now_and_later() -> None:
    """A set that can be made again goes on as the first one, whatever is added to it and taken from it."""
    same = 0
    for number in range(400):
        first = changed(number)
        order = set_order(first, [*first])
        if order == []:
            continue
        same += 1
        again = refill_set({5, 900}, [*first], *(order or ()))
        rng = random.Random(number)
        for _ in range(60):
            item = rng.randrange(1000)
            for one in (first, again):
                one.discard(item + 1)
                one.add(item)
            assert [*again] == [*first]
        assert [again.pop() for _ in first.copy()] == [first.pop() for _ in first.copy()]
    assert same > 100


@pytest.mark.parametrize("items", [range(6), "abcdef"])
def test_a_set_that_was_popped_from_is_not_made_again(items: Any) -> None:
    found = set(items)
    found.pop()
    assert set_order(found, [*found]) == []


def test_a_set_in_a_larger_table_is_not_made_again() -> None:
    found = set(range(200)) - set(range(2, 200))
    larger = set(range(200))
    larger -= set(range(2, 200))
    assert set_order(found, [*found]) is None
    assert set_order(larger, [*larger]) == []


def test_a_frozenset_has_its_order() -> None:
    for items in (frozenset(range(0, 900, 37)) | {5}, frozenset({1, 2, 3, 4, 5})):
        order = set_order(items, [*items])
        assert order != []
        again = frozenset(refill_set(set(), [*items], *(order or ())))
        assert [*(again | {6, 7, 8, 9, 10, 11})] == [*(items | {6, 7, 8, 9, 10, 11})]
