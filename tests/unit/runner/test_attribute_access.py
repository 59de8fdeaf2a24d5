"""Attributes are set where an object holds them, without code of its class."""

from typing import Any

from samebits.runner.checkpoint.state.attribute_access import (
    delete_attributes,
    held_attribute,
    put_in_order,
    set_attribute,
)


class Doubling:
    """A descriptor of a script that changes what it is given, and what it gives."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, holder: Any, owner: type) -> Any:
        return 0

    def __set__(self, holder: Any, value: int) -> None:
        vars(holder)[self.name] = value * 2


class Counting:
    """A class that counts how often its attributes are set."""

    size = Doubling()

    def __init__(self) -> None:
        vars(self)["times"] = 0
        self.one = 1

    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)["times"] += 1
        object.__setattr__(self, name, value)


class Slots:
    """A class with slots alone."""

    __slots__ = ("__one", "other")

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, 0)


def test_a_dictionary() -> None:
    held = Counting()
    set_attribute(held, "one", 5)
    set_attribute(held, "size", 7)
    assert vars(held) == {"times": 1, "one": 5, "size": 7}
    assert held_attribute(held, "size") == 7
    assert held_attribute(held, "none") is None
    delete_attributes(held, ["one", "none"])
    assert vars(held) == {"times": 1, "size": 7}


def test_slots() -> None:
    held = Slots()
    set_attribute(held, "_Slots__one", 5)
    set_attribute(held, "other", 6)
    assert (held_attribute(held, "_Slots__one"), held.other) == (5, 6)  # type: ignore[attr-defined]


def test_the_order_of_attributes() -> None:
    held = Counting()
    set_attribute(held, "b", 1)
    put_in_order(held, ["b", "one", "gone"])
    assert [*vars(held)] == ["times", "b", "one"]
    known = vars(held)
    put_in_order(held, ["times", "b", "one"])
    assert vars(held) is known
