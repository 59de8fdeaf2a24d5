"""Patches: replaced attributes of other modules and classes, installed through one object that can undo them."""

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

PatchTarget = tuple[Any, str]
"""A module or class, and the name of the attribute to patch."""

# Marks an attribute that the owner inherits: on undo it is deleted again.
_INHERITED = object()


class Patches:
    """Replaces attributes, and restores the original objects in reverse order.

    Two patches of one attribute compose: the second wraps the first. Both are undone together.

        with Patches() as patches:
            patches.wrap((keras.Model, "fit"), make_wrapper)
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute until `undo`."""
        # `getattr` would unwrap a `staticmethod`, so the owner's own dictionary is read.
        original = vars(owner).get(name, _INHERITED)
        setattr(owner, name, value)
        self._stack.callback(_restore, owner, name, original)

    def wrap(self, target: PatchTarget, make: Callable[[Any], Any]) -> None:
        """Replace an attribute by `make(attribute)`."""
        owner, name = target
        self.replace(owner, name, make(getattr(owner, name)))

    def on_undo(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function on `undo`, after the patches made later are undone."""
        self._stack.callback(function, *arguments)

    def undo(self) -> None:
        """Undo all patches. The object can be used again."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def _restore(owner: Any, name: str, original: Any) -> None:
    if original is not _INHERITED:
        setattr(owner, name, original)
    elif name in vars(owner):
        delattr(owner, name)
