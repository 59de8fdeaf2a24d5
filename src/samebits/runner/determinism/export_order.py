"""The order of variables in exported models: the one in which they were used, instead of that of their addresses.

TensorFlow collects the variables of a graph in sets by identity, and writes an exported model in their order. So two
equal trainings exported other files. Nor did two lists of checkpoints agree, which held the time of day.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.export_names import install_export_names


def install_export_order(patches: Patches) -> None:
    """Let every new set by identity keep its order, and number the functions of exported models.

    The list of checkpoints that `tf.train.CheckpointManager` writes loses its times of day, which are optional there.
    Its checkpoint counts its saves from the start, so that a resumed run can restore the count.
    """
    import tensorflow as tf

    patches.wrap(tensorflow_private.identity_set_location(), _ordered)
    install_export_names(patches)
    patches.wrap(tensorflow_private.checkpoint_state_location(), _without_times)
    patches.wrap((tf.train.CheckpointManager, "__init__"), _with_counter)


def _without_times(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def state(*arguments: Any, **options: Any) -> Any:
        made = original(*arguments, **options)
        for name in ("all_model_checkpoint_timestamps", "last_preserved_timestamp"):
            made.ClearField(name)
        return made

    return state


def _with_counter(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def init(manager: Any, checkpoint: Any, *arguments: Any, **options: Any) -> None:
        original(manager, checkpoint, *arguments, **options)
        # Its first save would create this variable. Every run creates it here, whatever checkpoints it writes.
        getattr(checkpoint, "save_counter", None)

    return init


def _ordered(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def init(made: Any, *items: Any) -> None:
        original(made)
        tensorflow_private.store_identities(made, OrderedSet())
        if items:
            made.update(items[0])

    return init


class OrderedSet(set[Any]):
    """A set in the order in which its items were first added, for what TensorFlow does with one.

    What `difference` and `intersection` make keeps the order, too.
    """

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__()
        self._order: dict[Any, None] = {}
        self.update(items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._order)

    def add(self, item: Any) -> None:
        """Add an item at the end, unless it is there."""
        super().add(item)
        self._order.setdefault(item)

    def update(self, *others: Iterable[Any]) -> None:
        """Add all items of the others in their order."""
        for item in (item for other in others for item in other):
            self.add(item)

    def discard(self, item: Any) -> None:
        """Remove an item if it is there."""
        super().discard(item)
        self._order.pop(item, None)

    def remove(self, item: Any) -> None:
        """Remove an item. Raises KeyError if it is not there."""
        super().remove(item)
        del self._order[item]

    def clear(self) -> None:
        """Remove all items."""
        super().clear()
        self._order.clear()

    def difference(self, *others: Iterable[Any]) -> "OrderedSet":
        """The items that none of the others holds."""
        left = super().difference(*others)
        return OrderedSet(item for item in self if item in left)

    def intersection(self, *others: Iterable[Any]) -> "OrderedSet":
        """The items that all others hold."""
        left = super().intersection(*others)
        return OrderedSet(item for item in self if item in left)
