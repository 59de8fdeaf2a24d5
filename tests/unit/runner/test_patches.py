"""Attributes are replaced, and the very same objects come back, whatever kind they are of."""

import functools
import types
from collections.abc import Callable

import pytest

from samebits.runner.compat.patches import Patches


class Base:
    inherited = (1,)

    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def of_class(cls) -> str:
        return "class"

    def method(self) -> str:
        return "method"


class Derived(Base):
    pass


@pytest.mark.parametrize("name", ["static", "of_class", "method", "inherited"])
def test_the_very_object_comes_back(name: str) -> None:
    before = vars(Base)[name]
    with Patches() as patches:
        patches.replace(Base, name, None)
        assert vars(Base)[name] is None
    assert vars(Base)[name] is before


def test_what_was_inherited_is_inherited_again() -> None:
    with Patches() as patches:
        patches.replace(Derived, "inherited", (2,))
        assert (Derived.inherited, Base.inherited) == ((2,), (1,))
    assert "inherited" not in vars(Derived)
    with Patches() as patches:
        patches.replace(Derived, "inherited", (2,))
        del Derived.inherited  # the script may do so
    assert Derived.inherited is Base.inherited


def _named(inner: Callable[[], list[str]], name: str) -> Callable[[], list[str]]:
    return lambda: [name, *inner()]


def test_two_patches_compose_and_are_undone_together() -> None:
    module = types.ModuleType("module")
    module.f = original = lambda: ["f"]  # type: ignore[attr-defined]
    undone: list[str] = []
    patches = Patches()
    for name in ("first", "second"):
        patches.wrap((module, "f"), functools.partial(_named, name=name))
        patches.on_undo(undone.append, name)
    assert module.f() == ["second", "first", "f"]
    patches.undo()
    assert module.f is original
    assert undone == ["second", "first"]
    patches.undo()
    assert undone == ["second", "first"]


def test_an_error_undoes_all() -> None:
    def fail() -> None:
        with Patches() as patches:
            patches.replace(Base, "inherited", None)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert Base.inherited == (1,)
