"""Restores saved state into the objects that the script has created again, in place, as other objects refer to them.

Only plain containers, arrays, generators and numbers are created. So a checkpoint file can never name code that is to
be run. Whether the state can be restored is checked when it is captured (`restorability`), not when it is needed.
"""

import enum
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samebits.runner.checkpoint.state.array_layout import described_array, restored_array
from samebits.runner.checkpoint.state.array_parts import part_of
from samebits.runner.checkpoint.state.attribute_access import (
    delete_attributes,
    follows_attributes,
    held_attribute,
    put_in_order,
    set_attribute,
)
from samebits.runner.checkpoint.state.capture_containers import held_class, key_text
from samebits.runner.checkpoint.state.container_access import (
    counterpart,
    items_of,
    pairs_of,
    refill_mapping,
    refill_sequence,
    refill_set,
    refilled_tuple,
    usable,
)
from samebits.runner.checkpoint.state.encoding import (
    NEW,
    ORDER,
    PART,
    PLAIN,
    REPLACEABLE,
    SYMBOLIC,
    WAS,
    Content,
    Encoded,
    PathMap,
    UncapturableError,
    is_same,
    kind_of,
    qualified_name,
)
from samebits.runner.checkpoint.state.generators import (
    restored_generator,
    restored_random,
    restored_seeds,
    restored_state,
)
from samebits.runner.checkpoint.state.initial_objects import InitialObjects
from samebits.runner.checkpoint.state.keras_state import inner_parts, paired, variables_of
from samebits.runner.checkpoint.state.object_inspection import weakly
from samebits.runner.checkpoint.state.plain_values import float_of, made_value
from samebits.runner.checkpoint.state.restore_code import CodeRestorer
from samebits.runner.compat import keras_private, multi_worker

_IMMUTABLE = ("float", "bytes", "complex", "scalar", "constant", "again", "text", "path", "member", "unsaved", "file")
_BY_ITEMS = ("tuple", "set", "frozenset")


class StateRestorer:
    """One walk over saved state, in parallel with the `live` objects into which it is restored."""

    def __init__(self, content: Content, folders: PathMap, initial: InitialObjects | None = None) -> None:
        """`initial` are the objects as they were when training began; without them, none can have moved."""
        self._content = content
        self._folders = folders
        self._initial = initial
        self._code = CodeRestorer(weakly(self.value))
        self._objects: dict[int, Any] = {}
        self._taken: dict[int, Any] = {}
        self._pending: list[tuple[Any, Any, str]] = []
        self.optimizers: list[Any] = []

    def restore_roots(self, encoded: Mapping[str, Any], roots: Mapping[str, Any]) -> None:
        """Restore the roots, then the globals, in the order in which they were captured."""
        for name, item in encoded["roots"]:
            self.value(item, roots[name], name)
        for module, name, item in encoded["globals"]:
            live = vars(sys.modules[module])
            live[name] = self.value(item, live.get(name), f"{module}.{name}")
        # Optimizers come last, in the order in which they were captured.
        while self._pending:
            self._restore_optimizer(*self._pending.pop(0))

    def value(self, encoded: Encoded, live: Any, where: str) -> Any:
        """The saved value: the live object, changed in place, or a new plain value. Raises UncapturableError."""
        if type(encoded) in PLAIN:
            return encoded
        if encoded == SYMBOLIC:
            return live
        kind = kind_of(encoded)
        content = encoded[kind]
        if kind in _IMMUTABLE:
            found = self._immutable(kind, content, live, where)
        else:
            live = self._own(encoded, self._meant(encoded, live, where), where)
            # The object may contain itself.
            self._objects[encoded["#"]] = live = usable(kind, live)
            found = self._restored(kind, encoded, live, where)
        # Later references find the restored object, which may be a new one.
        if "#" in encoded:
            self._objects[encoded["#"]] = found
        return found

    def _restored(self, kind: str, encoded: Mapping[str, Any], live: Any, where: str) -> Any:
        content = encoded[kind]
        if kind in _BY_ITEMS:
            return self._collected(kind, encoded, live, where)
        if kind == "array" and PART in encoded:
            return self._part(encoded, where)
        restore = getattr(self, f"_{kind}", None) or getattr(self._code, kind)
        return restore(content, live, where)

    def _meant(self, encoded: Mapping[str, Any], live: Any, where: str) -> Any:
        """The object into which a value is restored: the one in its place, unless training put another one there."""
        if NEW in encoded or PART in encoded:
            return None
        if WAS not in encoded:
            return live
        moved = None if self._initial is None else self._initial.at(encoded[WAS])
        if moved is None:
            raise UncapturableError(f"{where} moved from {encoded[WAS]}, which is not there when the script runs again")
        return moved

    def _own(self, encoded: Mapping[str, Any], live: Any, where: str) -> Any:
        """The live object, or None where another value was restored into it: the two were one when training began.

        None, too, where it is of another class than the saved one, which is a usual one then.
        """
        if kind_of(encoded) in REPLACEABLE and held_class(live) != encoded.get("class"):
            if "class" in encoded:
                raise UncapturableError(f"{where} is no {encoded['class']} when the script runs again")
            live = None
        taken = kind_of(encoded) in REPLACEABLE and live is not None and id(live) in self._taken
        self._taken.setdefault(id(live), live)
        if not taken:
            return live
        if "class" in encoded:
            raise UncapturableError(f"{where} and another name are one object when the script runs again")
        return None

    def _immutable(self, kind: str, content: Any, live: Any, where: str) -> Any:
        if kind == "again":
            if content not in self._objects:
                raise UncapturableError(f"{where} is held by an optimizer alone; hold it in an attribute, too")
            return self._objects[content]
        if kind == "constant" and qualified_name(live) != content:
            raise UncapturableError(f"{where} was {content}, but is {qualified_name(live)} when the script runs again")
        if kind in ("constant", "unsaved", "file"):
            return live
        if kind == "member":
            return self._member(content, live, where)
        # Paths are those of this run.
        if kind in ("text", "path"):
            text = self._folders.arrive(content if isinstance(content, str) else content["text"])
            found = text if kind == "text" else Path(text)
            return live if type(live) is type(found) and live == found else found
        return self._number(kind, content)

    def _member(self, content: Any, live: Any, where: str) -> Any:
        if not isinstance(live, enum.Enum):
            raise UncapturableError(f"{where} is no {content['class']} when the script runs again")
        # Flags together have a value and no name of their own.
        member = type(live)(content["value"]) if "value" in content else type(live)[content["name"]]
        self._own_attributes(content.get("attributes", {}), member, where)
        return member

    def _number(self, kind: str, content: Any) -> Any:
        if kind == "complex":
            return complex(*map(float_of, content))
        if kind == "scalar":
            return self._made(content) if isinstance(content, list) else self._content.array(content)[()]
        return float_of(content) if kind == "float" else self._folders.arrive_bytes(content)

    def _made(self, content: list[Any]) -> Any:
        return made_value(
            [self._folders.arrive(part["text"]) if isinstance(part, Mapping) else part for part in content]
        )

    def _variable(self, content: Any, live: Any, where: str) -> Any:
        import tensorflow as tf

        saved = self._content.array(content)
        if not hasattr(live, "assign") or list(live.shape) != content["shape"]:
            raise UncapturableError(f"{where}: the variable has another shape when the script runs again")
        multi_worker.own_part(live).assign(tf.constant(saved))
        self._attributes(content.get("attributes", {}), live, where)
        return live

    def _array(self, content: Any, live: Any, where: str) -> Any:  # noqa: ARG002
        return restored_array(self._content.array(content), live)

    def _part(self, encoded: Mapping[str, Any], where: str) -> Any:
        """A new array whose memory is a part of another one's: that of an initial array, or of one restored before."""
        whole, offset = encoded[PART]
        live = self._objects.get(whole) if isinstance(whole, int) else self._initial and self._initial.at(whole)
        if live is None:
            raise UncapturableError(f"{where} is a part of {whole}, which is not there when the script runs again")
        return part_of(live, offset, self._content.array(encoded["array"]))

    def _unchanged(self, content: Any, live: Any, where: str) -> Any:
        if described_array(live) == content:
            return live
        raise UncapturableError(f"{where} is no {content} when the script runs again")

    def _held(self, content: Any, live: Any, where: str) -> Any:
        return self._immutable("constant", content, live, where)

    def _tensor(self, content: Any, live: Any, where: str) -> Any:  # noqa: ARG002
        import tensorflow as tf

        return tf.constant(self._content.array(content))

    def _python_random(self, content: Any, live: Any, where: str) -> Any:  # noqa: ARG002
        return restored_random(content, live)

    def _numpy_state(self, content: Any, live: Any, where: str) -> Any:
        return restored_state(self.value(content, None, where), live)

    def _numpy_generator(self, content: Any, live: Any, where: str) -> Any:
        return restored_generator(self.value(content["state"], None, where), content["seeds"], live, where)

    def _seed_sequence(self, content: Any, live: Any, where: str) -> Any:
        return restored_seeds(content, live, where)

    def _tensorflow_generator(self, content: Any, live: Any, where: str) -> Any:
        self.value(content, getattr(live, "state", None), where)
        return live

    def _optimizer(self, content: Any, live: Any, where: str) -> Any:
        if not hasattr(live, "variables"):
            raise UncapturableError(f"{where} is not an optimizer when the script runs again")
        self.optimizers.append(live)
        self._code.bases(content, live)
        self._pending.append((content, live, where))
        return live

    def _restore_optimizer(self, content: Any, live: Any, where: str) -> None:
        known = keras_private.optimizer_variables(live) if live.built else [None] * len(content["trained"])
        trained = [self.value(item, variable, where) for item, variable in paired(content["trained"], known, where)]
        if content["built"] and not live.built:
            # Its first step would have built it.
            with keras_private.scope_of(live, content.get("parent")):
                live.build(trained)
        for item, variable in paired(content["variables"], live.variables, where):
            self.value(item, variable, where)
        self._attributes(content["attributes"], live, where)

    def _layer(self, content: Any, live: Any, where: str) -> Any:
        if content.get("build") is not None and not live.built:
            # Its first step would have built it.
            live.build_from_config({"input_shape": tuple(content["build"])})
        variables = [live.state] if hasattr(live, "state") and not hasattr(live, "variables") else variables_of(live)
        for item, variable in paired(content["variables"], variables, where):
            self.value(item, variable, where)
        self._code.bases(content, live)
        self._attributes(content["attributes"], live, where)
        for item, layer in paired(content.get("inner", []), inner_parts(live) if "inner" in content else (), where):
            self.value(item, layer, f"{where}.{layer.name}")
        return live

    def _members(self, content: Any, live: Any, where: str) -> Any:
        for item in content:
            self.value(item, live[item["member"]["name"]] if "member" in item else None, where)
        return live

    def _list(self, content: Any, live: Any, where: str) -> Any:
        refill_sequence(live, self._items(content, live, where))
        return live

    _deque = _list

    def _collected(self, kind: str, encoded: Mapping[str, Any], live: Any, where: str) -> Any:
        """A tuple, or a set."""
        content, held = encoded[kind], encoded.get("class")
        if kind == "tuple":
            if held is not None and held_class(live) != held:
                raise UncapturableError(f"{where} is no {held} when the script runs again")
            items = self._items(content, live if isinstance(live, tuple) else (), where)
            return refilled_tuple(live, items, tuple if held is None else type(live))
        live_items = list(live or ())
        items = [self.value(item, counterpart(item, live_items, index), where) for index, item in enumerate(content)]
        # One that cannot be filled again has not changed; see `restorability`.
        order = encoded.get(ORDER, [0])
        if not order:
            return live
        if kind == "set":
            return refill_set(live, items, *order)
        same = type(live) is frozenset and len(live) == len(items) and all(map(is_same, live, items))
        return live if same else frozenset(refill_set(set(), items, *order))

    def _items(self, content: Any, live: Any, where: str) -> list[Any]:
        known = items_of(live)
        known += [None] * (len(content) - len(known))
        return [self.value(item, known[index], f"{where}[{index}]") for index, item in enumerate(content)]

    def _dict(self, content: Any, live: Any, where: str) -> Any:
        items, known = [], pairs_of(live)
        held, keys = dict(known), [key for key, _ in known]
        for number, (encoded, item) in enumerate(content):
            # An object that is a key is in its place, unless it is marked as moved.
            key = self.value(encoded, counterpart(encoded, keys, number), where)
            items.append((key, self.value(item, held.get(key), f"{where}[{key_text(key, number)}]")))
        refill_mapping(live, items)
        return live

    def _buffer(self, content: Any, live: Any, where: str) -> Any:
        # Not by `write`, which would translate the ends of its lines again.
        state = [*live.__getstate__()]
        state[0], state[-2] = self.value(content[0], None, where), content[1]
        live.__setstate__(tuple(state))
        return live

    def _object(self, content: Any, live: Any, where: str) -> Any:
        if qualified_name(type(live)) != content["class"]:
            what = f"{where} was an object of {content['class']}, created during training"
            raise UncapturableError(f"{what}, which a resumed run cannot create; create it before")
        self._code.bases(content, live)
        restore = self._attributes if follows_attributes(live) else self._own_attributes
        restore(content["attributes"], live, where)
        delete_attributes(live, content.get("without", ()))
        put_in_order(live, content.get(ORDER, ()))
        return live

    def _attributes(self, content: Mapping[str, Any], live: Any, where: str) -> None:
        """Attributes of Keras's objects, which follow what is set on them."""
        for name, item in content.items():
            if item == SYMBOLIC:
                continue
            current = getattr(live, name, None)
            value = self.value(item, current, f"{where}.{name}")
            if value is not current or current is None:
                setattr(live, name, value)

    def _own_attributes(self, content: Mapping[str, Any], live: Any, where: str) -> None:
        """Attributes of an object, set without code of its class."""
        for name, item in content.items():
            if item != SYMBOLIC:
                current = held_attribute(live, name)
                value = self.value(item, current, f"{where}.{name}")
                if value is not current or current is None:
                    set_attribute(live, name, value)
