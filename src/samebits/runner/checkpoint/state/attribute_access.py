"""Sets and deletes attributes of objects without code of their classes, which may count or change what it is given."""

import types
from collections.abc import Iterable, Sequence
from typing import Any

from samebits.runner.checkpoint.state.object_inspection import attributes_of
from samebits.runner.compat import tensorflow_private


def held_attribute(value: Any, name: str) -> Any:
    """An attribute that an object itself holds; None where it holds none of this name."""
    held = getattr(value, "__dict__", {})
    return held[name] if name in held else (attributes_of(value) or {}).get(name)


def follows_attributes(value: Any) -> bool:
    """Whether TensorFlow follows what is set on an object, as on a `tf.Module`."""
    known = any(base.__module__.partition(".")[0] == "tensorflow" for base in type(value).__mro__)
    return known and tensorflow_private.is_trackable(value)


def set_attribute(value: Any, name: str, item: Any) -> None:
    """Set an attribute where an object holds it: in a slot of its class, or in its own dictionary."""
    slot = next((found for base in type(value).__mro__ if (found := vars(base).get(name)) is not None), None)
    if isinstance(slot, types.MemberDescriptorType):
        slot.__set__(value, item)
    elif type(getattr(value, "__dict__", None)) is dict:
        vars(value)[name] = item
    else:
        setattr(value, name, item)


def delete_attributes(value: Any, names: Iterable[str]) -> None:
    """Delete those of an object's own attributes that it has."""
    for name in names:
        if name in (attributes_of(value) or {}):
            object.__delattr__(value, name)


def order_of(value: Any) -> list[str]:
    """The names of an object's attributes in their order; empty where they are in slots."""
    return list(getattr(value, "__dict__", ()))


def put_in_order(value: Any, names: Sequence[str]) -> None:
    """Put an object's attributes into this order; others stay in front of them."""
    held = getattr(value, "__dict__", None)
    if type(held) is not dict or [name for name in held if name in names] == [name for name in names if name in held]:
        return
    found = {name: held.pop(name) for name in names if name in held}
    held.update(found)
