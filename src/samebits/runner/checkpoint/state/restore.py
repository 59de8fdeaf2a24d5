"""Restores saved state into the objects that the script has created again, in place, as other objects refer to them.

Only plain containers, arrays, generators and numbers are created. So a checkpoint file can never name code that is to
be run. Whether the state can be restored is checked when it is captured (`restorability`), not when it is needed.
"""

import collections
import enum
import sys
import types
import weakref
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from samebits.runner.checkpoint.state.array_layout import restored_array
from samebits.runner.checkpoint.state.capture_containers import held_class
from samebits.runner.checkpoint.state.code_inspection import holding_methods
from samebits.runner.checkpoint.state.encoding import (
    EMPTY,
    NEW,
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
    place_of,
    qualified_name,
    resolve_name,
)
from samebits.runner.checkpoint.state.generators import (
    restored_generator,
    restored_random,
    restored_seeds,
    restored_state,
)
from samebits.runner.checkpoint.state.initial_objects import InitialObjects
from samebits.runner.checkpoint.state.keras_state import inner_parts, paired, variables_of
from samebits.runner.checkpoint.state.object_inspection import (
    cell_content,
    delete_attributes,
    has_plain_attributes,
    is_cache,
)
from samebits.runner.compat import keras_private, multi_worker, tensorflow_private

_IMMUTABLE = ("float", "bytes", "complex", "scalar", "constant", "again", "text", "path", "member", "unsaved", "file")


class StateRestorer:
    """One walk over saved state, in parallel with the `live` objects into which it is restored."""

    def __init__(self, content: Content, folders: PathMap, initial: InitialObjects | None = None) -> None:
        """`initial` are the objects as they were when training began; without them, none can have moved."""
        self._content = content
        self._folders = folders
        self._initial = initial
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
            self._objects[encoded["#"]] = live
            found = getattr(self, f"_{kind}")(content, live, where)
        # Later references find the restored object, which may be a new one.
        if "#" in encoded:
            self._objects[encoded["#"]] = found
        return found

    def _meant(self, encoded: Mapping[str, Any], live: Any, where: str) -> Any:
        """The object into which a value is restored: the one in its place, unless training put another one there."""
        if NEW in encoded:
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
            return text if kind == "text" else live if _is_path(live, text) else Path(text)
        return self._number(kind, content)

    def _member(self, content: Any, live: Any, where: str) -> Any:
        if not isinstance(live, enum.Enum):
            return live
        # Flags together have a value and no name of their own.
        member = type(live)(content["value"]) if "value" in content else type(live)[content["name"]]
        self._attributes(content.get("attributes", {}), member, where)
        return member

    def _number(self, kind: str, content: Any) -> Any:
        if kind == "complex":
            return complex(*(float.fromhex(part) for part in content))
        if kind == "scalar":
            return self._content.array(content)[()]
        return float.fromhex(content) if kind == "float" else self._folders.arrive_bytes(content)

    def _variable(self, content: Any, live: Any, where: str) -> Any:
        import tensorflow as tf

        saved = self._content.array(content)
        if not hasattr(live, "assign") or list(live.shape) != content["shape"]:
            raise UncapturableError(f"{where}: the variable has another shape when the script runs again")
        multi_worker.own_part(live).assign(tf.constant(saved))
        return live

    def _array(self, content: Any, live: Any, where: str) -> Any:  # noqa: ARG002
        return restored_array(self._content.array(content), live)

    def _unchanged(self, content: Any, live: Any, where: str) -> Any:
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
        self._bases(content, live)
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
        self._bases(content, live)
        self._attributes(content["attributes"], live, where)
        for item, layer in paired(content.get("inner", []), inner_parts(live) if "inner" in content else (), where):
            self.value(item, layer, f"{where}.{layer.name}")
        return live

    def _bases(self, content: Mapping[str, Any], live: Any) -> None:
        """Restore the attributes of the script's classes that an object is an instance of, and of a class's own."""
        bases = {qualified_name(base): base for base in (*type(live).__mro__, *getattr(live, "__mro__", ()))}
        for name, item in content.get("of", ()):
            self.value(item, bases.get(name), name)

    def _members(self, content: Any, live: Any, where: str) -> Any:
        for item in content:
            self.value(item, live[item["member"]["name"]] if "member" in item else None, where)
        return live

    def _weak(self, content: Any, live: Any, where: str) -> Any:
        self.value(content, live() if isinstance(live, weakref.ref) else None, where)
        return live

    def _wrapped(self, content: Any, live: Any, where: str) -> Any:
        function = live.__wrapped__ if is_cache(live) else tensorflow_private.python_function(live)
        self.value(content, function, where)
        return live

    def _list(self, content: Any, live: Any, where: str) -> Any:
        items = self._items(content, live, where)
        if not isinstance(live, list):
            return items
        if len(live) != len(items) or any(one is not other for one, other in zip(live, items, strict=True)):
            live[:] = items
        return live

    def _tuple(self, content: Any, live: Any, where: str) -> Any:
        items = self._items(content, live, where)
        # The same tuple is kept if possible, as other objects may refer to it.
        if isinstance(live, tuple) and len(live) == len(items) and all(map(is_same, live, items)):
            return live
        return type(live)(*items) if isinstance(live, tuple) and hasattr(live, "_fields") else tuple(items)

    def _deque(self, content: Any, live: Any, where: str) -> Any:
        items = self._items(content, list(live) if isinstance(live, collections.deque) else None, where)
        live = live if isinstance(live, collections.deque) else collections.deque()
        live.clear()
        live.extend(items)
        return live

    def _items(self, content: Any, live: Any, where: str) -> list[Any]:
        known = list(live) if isinstance(live, (list, tuple)) else []
        known += [None] * (len(content) - len(known))
        return [self.value(item, known[index], f"{where}[{index}]") for index, item in enumerate(content)]

    def _dict(self, content: Any, live: Any, where: str) -> Any:
        live = live if isinstance(live, collections.abc.MutableMapping) else {}
        items = {}
        known = list(live)
        for number, (encoded, item) in enumerate(content):
            # An object that is a key can only be the one that is there.
            key = self.value(encoded, known[number] if number < len(known) else None, where)
            items[key] = self.value(item, live.get(key), f"{where}[{key!r}]")
        # Only a new dict has the saved order of keys; a clear keeps the object.
        if list(live) != list(items):
            live.clear()
        for key, item in items.items():
            if key not in live or live[key] is not item:
                live[key] = item
        return live

    def _set(self, content: Any, live: Any, where: str) -> Any:
        items = [self.value(item, None, where) for item in content]
        if not isinstance(live, set):
            return set(items)
        # Insertion into an empty set gives the saved order; see `capture_containers`.
        live.clear()
        live.update(items)
        return live

    def _frozenset(self, content: Any, live: Any, where: str) -> Any:  # noqa: ARG002
        return frozenset(self.value(item, None, where) for item in content)

    def _buffer(self, content: Any, live: Any, where: str) -> Any:
        # Not by `write`, which would translate the ends of its lines again.
        state = [*live.__getstate__()]
        state[0], state[-2] = self.value(content[0], None, where), content[1]
        live.__setstate__(tuple(state))
        return live

    def _function(self, content: Any, live: Any, where: str) -> Any:
        place = content.get("place")
        found = qualified_name(live) == content["name"] and place in (None, place_of(live))
        if not (isinstance(live, types.FunctionType) and found):
            live = resolve_name(content["name"], where, place)
        if content["holds"] is not None:
            self.value(content["holds"], [list(live.__defaults__ or ()), live.__kwdefaults__ or {}, vars(live)], where)
        # Cells are shared between closures, and so are changed in place.
        for item, cell in zip(content["cells"], live.__closure__ or (), strict=False):
            if item != EMPTY:
                cell.cell_contents = self.value(item, cell_content(cell), where)
        return live

    def _type(self, content: Any, live: Any, where: str) -> Any:
        if qualified_name(live) != content["name"]:
            raise UncapturableError(
                f"{where} was the class {content['name']}, but is {qualified_name(live)} when the script runs again"
            )
        for name, item in content["attributes"].items():
            current = vars(live).get(name)
            value = self.value(item, current, f"{where}.{name}")
            if value is not current:
                setattr(live, name, value)
        self._bases(content, live)
        for saved, function in zip(content["methods"], holding_methods(live), strict=False):
            if saved["name"] == qualified_name(function):
                self._function(saved, function, f"{where}.{function.__name__}")
        return live

    def _method(self, content: Any, live: Any, where: str) -> Any:
        owner = self.value(content["of"], getattr(live, "__self__", None), where)
        return live if isinstance(live, types.MethodType) else getattr(owner, content["name"])

    def _partial(self, content: Any, live: Any, where: str) -> Any:
        if not hasattr(live, "keywords"):
            raise UncapturableError(f"{where} is not a partial function when the script runs again")
        held = (live.func, live.args, live.keywords)
        parts = [self.value(item, part, where) for item, part in zip(content, held, strict=True)]
        # Its function and arguments cannot be changed in place.
        same = all(one is other for one, other in zip(parts, held, strict=True))
        return live if same else type(live)(parts[0], *parts[1], **parts[2])

    def _object(self, content: Any, live: Any, where: str) -> Any:
        if qualified_name(type(live)) != content["class"]:
            what = f"{where} was an object of {content['class']}, created during training"
            raise UncapturableError(f"{what}, which a resumed run cannot create; create it before")
        self._bases(content, live)
        self._attributes(content["attributes"], live, where)
        delete_attributes(live, content.get("without", ()))
        return live

    def _attributes(self, content: Mapping[str, Any], live: Any, where: str) -> None:
        for name, item in content.items():
            if item == SYMBOLIC:
                continue
            current = getattr(live, name, None)
            value = self.value(item, current, f"{where}.{name}")
            if value is not current or current is None:
                # A frozen dataclass refuses `setattr`.
                set_attribute = object.__setattr__ if has_plain_attributes(live) else setattr
                set_attribute(live, name, value)


def _is_path(value: Any, text: str) -> bool:
    return isinstance(value, PurePath) and str(value) == text
