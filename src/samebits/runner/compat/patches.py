"""Replaced attributes of foreign modules and classes: all of them go through one object, which can undo them."""

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

Location = tuple[Any, str]
"""A module or class, and the name of its attribute."""

_INHERITED = object()


class Patches:
    """Replaces attributes, and puts the very same objects back, the last one first.

    Two patches of one attribute compose: the second wraps what the first left. Both are undone together.

        with Patches() as patches:
            patches.wrap((keras.Model, "fit"), make_wrapper)
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute until `undo`."""
        # What the owner's own dictionary holds, as a `staticmethod` is: `getattr` would give what is in it.
        before = vars(owner).get(name, _INHERITED)
        setattr(owner, name, value)
        self._stack.callback(_restore, owner, name, before)

    def wrap(self, location: Location, make: Callable[[Any], Any]) -> None:
        """Replace an attribute by what `make` gives for it."""
        owner, name = location
        self.replace(owner, name, make(getattr(owner, name)))

    def on_undo(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function when the patches made after this call are undone."""
        self._stack.callback(function, *arguments)

    def undo(self) -> None:
        """Undo everything; later patches can be undone again."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def _restore(owner: Any, name: str, before: Any) -> None:
    if before is not _INHERITED:
        setattr(owner, name, before)
    elif name in vars(owner):
        delattr(owner, name)
