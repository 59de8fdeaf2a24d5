"""What an object of any class holds, as far as a checkpoint is concerned."""

from collections.abc import Callable
from typing import Any


def draws_unseen(kind: type, ours: Callable[[type], bool]) -> bool:
    """Whether a PyDataset inherits from one of a library: that code is not inspected, and may draw."""
    import keras

    bases = [base for base in kind.__mro__ if issubclass(base, keras.utils.PyDataset)]
    return any(base is not keras.utils.PyDataset and not ours(base) for base in bases)


def attributes_of(value: Any) -> dict[str, Any] | None:
    """An object's attributes, including those in slots; None if it cannot have any."""
    slots = [name for base in type(value).__mro__ for name in _slots(base) if hasattr(value, name)]
    # Objects that are implemented in C often have neither.
    if not slots and not hasattr(value, "__dict__"):
        return None
    return {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})


def _slots(base: type) -> tuple[str, ...]:
    declared = vars(base).get("__slots__", ())
    names = (declared,) if isinstance(declared, str) else tuple(declared)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def is_opaque(value: Any) -> bool:
    """Whether an object is an internal of TensorFlow or Keras, whose attributes are not walked."""
    import keras
    import tensorflow as tf

    if isinstance(value, (keras.callbacks.Callback, keras.utils.PyDataset, tf.data.Iterator)):
        return False
    return type(value).__module__.partition(".")[0] in ("tensorflow", "keras")
