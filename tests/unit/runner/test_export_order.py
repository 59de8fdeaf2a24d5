"""A set that keeps the order in which its items came, in the place of TensorFlow's."""

import pytest

from samebits.runner.determinism.export_order import OrderedSet


def test_the_order_is_that_of_the_first_time() -> None:
    found = OrderedSet(["b", "c"])
    found.add("a")
    found.add("b")
    found.update(["e", "a"], ["d"])
    assert list(found) == ["b", "c", "a", "e", "d"]
    assert found == {"a", "b", "c", "d", "e"}
    assert len(found) == 5
    assert "e" in found


def test_items_are_removed() -> None:
    found = OrderedSet("abcd")
    found.discard("x")
    found.discard("b")
    found.remove("a")
    with pytest.raises(KeyError):
        found.remove("a")
    found.add("a")
    assert list(found) == ["c", "d", "a"]
    found.clear()
    assert (list(found), len(found)) == ([], 0)


def test_what_is_made_of_it_keeps_the_order() -> None:
    found = OrderedSet("gfedcba")
    assert list(found.difference("ef", "b")) == ["g", "d", "c", "a"]
    assert list(found.intersection("abg", "bgx")) == ["g", "b"]
