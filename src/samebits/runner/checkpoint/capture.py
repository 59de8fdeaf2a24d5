"""The state of Python objects that a training changes, taken out as JSON and bytes (`putting_back` is the way back).

What is walked begins at given roots (callbacks, a model, a PyDataset) and follows attributes, containers, and what the
user's own functions can reach: the cells of closures, and the globals that their code names. Libraries' modules are not
walked; their random generators are taken by `randomness`.
"""

import base64
import collections
import enum
import functools
import io
import random
import sys
import types
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.runner.checkpoint.code_inspection import draws, global_names, holding_methods, is_ours, methods_of
from samebits.runner.checkpoint.encoding import EMPTY, PLAIN, Encoded, PathMap, UncapturableError, qualified_name
from samebits.runner.checkpoint.global_rngs import generator_kinds
from samebits.runner.checkpoint.keras_state import build_of, fixed_of, parts_of, variables_of
from samebits.runner.compat import cpython_private, keras_private
from samebits.runner.digests.tensors import raw_bytes, values_of

_INLINE = 4096  # bytes: arrays up to this size stand in the JSON itself
_LARGE_ELEMENTS = 16 << 20  # bytes: arrays from this size on are kept only if they changed


class StateWalker:
    """Takes state out; `code` is the folder of the user's own modules, `folders` those that other runs have elsewhere.

    Large arrays that were there when training began, as the data is, are not saved while they stay as they are: the
    script makes them again.
    """

    def __init__(self, code: Path, folders: PathMap) -> None:
        self._code = str(code)
        self._folders = folders
        self._large: dict[int, tuple[Any, int]] = {}

    def confine(self, qualified_name: Iterable[list[Any]]) -> None:
        """Raise RecordError where saved globals are not of the script's own modules."""
        for module, name, _ in qualified_name:
            if not is_ours(module, self._code) or name not in vars(sys.modules[module]):
                raise RecordError(f"a checkpoint names {module}.{name}, which is nothing of the script's")

    def begin(self, roots: Mapping[str, Any]) -> "StateCapture":
        """Take the state out before training begins; the large arrays in it are remembered. Raises UnsavableError."""
        self._large = {}
        taking = StateCapture(self._code, self._folders, self._large, begins=True)
        taking.roots(roots)
        return taking

    def take(self, roots: Mapping[str, Any], known: Mapping[int, tuple[Any, Digest]] | None = None) -> "StateCapture":
        """Take the state out; `known` are values and digests of variables that were read already, by their id.

        Raises UnsavableError.
        """
        taking = StateCapture(self._code, self._folders, self._large, known)
        taking.roots(roots)
        return taking


class StateCapture:
    """One walk outwards: the JSON, and the bytes that it names."""

    def __init__(
        self,
        code: str,
        folders: PathMap,
        large: dict[int, tuple[Any, int]],
        known: Mapping[int, tuple[Any, Digest]] | None = None,
        *,
        begins: bool = False,
    ) -> None:
        self._code = code
        self._folders = folders
        self._large = large
        self._begins = begins
        self._known = known or {}
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []
        self._wanted: dict[tuple[str, str], None] = {}
        self._lenient = 0
        self.contents: dict[str, Any] = {}
        self.optimizers: list[Any] = []
        self.draws = False
        self.encoded: dict[str, Any] = {}

    def reached(self, value: Any) -> bool:
        """Whether the walk came by this object."""
        return id(value) in self._seen

    def roots(self, roots: Mapping[str, Any]) -> None:
        """Walk from these, and over the globals that the functions on the way name."""
        found = [[name, self.encode(value, name)] for name, value in roots.items()]
        qualified_name: list[list[Any]] = []
        while len(qualified_name) < len(self._wanted):
            module, name = list(self._wanted)[len(qualified_name)]
            qualified_name.append([module, name, self.encode(vars(sys.modules[module])[name], f"{module}.{name}")])
        self.encoded = {"roots": found, "globals": qualified_name}

    def encode(self, value: Any, where: str) -> Encoded:
        """A value as JSON."""
        import numpy as np

        if type(value) is str:
            return self._folders.leave(value)
        if type(value) in PLAIN:
            return value
        if isinstance(value, float) and not isinstance(value, np.generic):
            return {"float": float(value).hex()}
        if id(value) in self._seen:
            return {"again": self._seen[id(value)]}
        plain = self._immutable(value)
        if plain is not None:
            return plain
        number = self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        for encoder in (self._arrays, self._random, self._keras, self._containers, self._code_of):
            found = encoder(value, where)
            if found is not None:
                break
        else:
            found = self._object(value, where)
        return {**found, "#": number}

    def _immutable(self, value: Any) -> Encoded | None:  # noqa: PLR0911  one kind after the other
        import numpy as np

        if isinstance(value, PurePath):
            return {"path": self._folders.leave(str(value))}
        if type(value) is bytes:
            return {"bytes": base64.b64encode(value).decode()}
        if type(value) is complex:
            return {"complex": [value.real.hex(), value.imag.hex()]}
        if isinstance(value, np.generic):
            return (
                {"scalar": self._array(value)} if value.dtype.kind in "biufc" else {"constant": qualified_name(value)}
            )
        if isinstance(value, type) and self._ours(value) and not issubclass(value, enum.Enum):
            return None
        if isinstance(value, enum.Enum):
            return {"member": {"class": qualified_name(type(value)), "name": value.name}}
        return (
            {"constant": qualified_name(value)} if isinstance(value, (type, types.ModuleType, range, slice)) else None
        )

    def _arrays(self, value: Any, where: str) -> Encoded | None:
        import keras
        import numpy as np
        import tensorflow as tf

        if isinstance(value, (keras.Variable, tf.Variable)):
            return {"variable": self._variable(value)}
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject or value.dtype.names or isinstance(value, np.ma.MaskedArray):
                raise UncapturableError(
                    f"{where} is an array of Python objects, or of another kind; use one of numbers"
                )
            if value.nbytes >= _LARGE_ELEMENTS and self._is_as_it_was(value):
                return {"unchanged": qualified_name(value)}
            return {"array": self._array(value.copy() if value.flags.writeable or value.base is not None else value)}
        if isinstance(value, tf.Tensor) and hasattr(value, "numpy") and value.dtype not in (tf.resource, tf.variant):
            return (
                {"constant": qualified_name(value)}
                if value.dtype == tf.string
                else {"tensor": self._array(value.numpy())}
            )
        return None

    def _is_as_it_was(self, large: Any) -> bool:
        """Whether a large array has not changed since training began; then it is remembered."""
        if self._begins:
            self._large[id(large)] = large, _checksum(large)
            return True
        return id(large) in self._large and self._large[id(large)][1] == _checksum(large)

    def _variable(self, value: Any) -> dict[str, Any]:
        array, digest = self._known.get(id(value), (None, None))
        return self._array(values_of(value) if array is None else array, digest)

    def _array(self, value: Any, digest: Digest | None = None) -> dict[str, Any]:
        about = {"dtype": _type_of(value.dtype), "shape": [int(size) for size in value.shape]}
        raw = raw_bytes(value)
        if len(raw) <= _INLINE:
            return about | {"in": base64.b64encode(raw).decode()}
        name = str(digest or Digest.of_bytes(raw))
        self.contents[name] = raw
        return about | {"at": name}

    def _random(self, value: Any, where: str) -> Encoded | None:
        import numpy as np
        import tensorflow as tf

        self.draws |= isinstance(value, generator_kinds())
        if isinstance(value, random.Random):
            version, state, gauss = value.getstate()
            if isinstance(value, random.SystemRandom):
                raise UncapturableError(f"{where} draws from the system; use a seeded generator")
            return {"python_random": [version, list(state), None if gauss is None else gauss.hex()]}
        if isinstance(value, np.random.RandomState):
            return {"numpy_state": self.encode(value.get_state(legacy=False), where)}
        if isinstance(value, tf.random.Generator):
            return {"tensorflow_generator": self.encode(value.state, where)}
        if isinstance(value, np.random.Generator):
            return {"numpy_generator": self.encode(value.bit_generator.state, where)}
        return None

    def _keras(self, value: Any, where: str) -> Encoded | None:
        import keras

        if isinstance(value, keras.optimizers.Optimizer):
            self.optimizers.append(value)
            trained = keras_private.optimizer_variables(value) if value.built else []
            return {
                "optimizer": {
                    "trained": [self.encode(variable, f"{where}'s variables") for variable in trained],
                    "variables": [self.encode(variable, f"{where}'s variables") for variable in value.variables],
                    "built": bool(value.built),
                }
            }
        if isinstance(value, keras.random.SeedGenerator):
            self.draws = True
            return {"layer": {"variables": [self.encode(value.state, where)], "attributes": {}}}
        if not isinstance(value, (keras.layers.Layer, keras.metrics.Metric, keras.losses.Loss)):
            return None
        variables = [self.encode(variable, f"{where}'s variables") for variable in variables_of(value)]
        attributes = {name: self.encode(item, f"{where}.{name}") for name, item in sorted(parts_of(value))}
        fixed = fixed_of(value, self._ours)
        return {"layer": {"variables": variables, "attributes": attributes, "fixed": fixed, **build_of(value)}}

    def _containers(self, value: Any, where: str) -> Encoded | None:
        if isinstance(value, (list, tuple, collections.deque)):
            kind = next(kind for kind in (list, tuple, collections.deque) if isinstance(value, kind))
            items = [self.encode(item, f"{where}[{index}]") for index, item in enumerate(value)]
            special = type(value) is not kind or getattr(value, "maxlen", None) is not None
            return {kind.__name__: items} | ({"class": qualified_name(type(value))} if special else {})
        if isinstance(value, Mapping) and isinstance(value, (dict, collections.abc.MutableMapping)):
            pairs = [[self.encode(key, where), self.encode(item, f"{where}[{key!r}]")] for key, item in value.items()]
            return {"dict": pairs} | ({} if type(value) is dict else {"class": qualified_name(type(value))})
        if type(value) in (set, frozenset):
            items = list(value)
            if list(type(value)(items)) != items:
                raise UncapturableError(f"{where} is a set whose order nobody can make again; use a dict or a list")
            return {type(value).__name__: [self.encode(item, where) for item in items]}
        return None

    def _code_of(self, value: Any, where: str) -> Encoded | None:  # noqa: PLR0911  one kind after the other
        if isinstance(value, type):
            methods = [
                {"name": qualified_name(function), **self._own_function(function, f"{where}.{function.__name__}")}
                for function in holding_methods(value)
            ]
            return {
                "type": {"name": qualified_name(value), "attributes": self._class(value, where), "methods": methods}
            }
        if isinstance(value, types.FunctionType):
            return {"function": {"name": qualified_name(value), **self._function(value, where)}}
        if isinstance(value, types.MethodType):
            return {"method": {"name": value.__name__, "of": self.encode(value.__self__, where)}}
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return {"partial": [self.encode(part, where) for part in parts]}
        if isinstance(value, (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)):
            raise UncapturableError(
                f"{where} is a Python generator, whose place cannot be saved; use a PyDataset, or a tf.data.Dataset"
            )
        if isinstance(value, types.BuiltinFunctionType) and not isinstance(
            value.__self__, (types.ModuleType, type(None))
        ):
            return {"method": {"name": value.__name__, "of": self.encode(value.__self__, where)}}
        if isinstance(value, (types.BuiltinFunctionType, types.MethodWrapperType, property, staticmethod, classmethod)):
            return {"constant": qualified_name(value)}
        return None

    def _class(self, kind: type, where: str) -> dict[str, Encoded]:
        """What a class of the user's own holds itself; its methods are walked."""
        for function in methods_of(kind):
            self._want_globals(function)
        data = {
            name: item
            for name, item in vars(kind).items()
            if not name.startswith("__") and not callable(item) and not hasattr(item, "__get__")
        }
        return {
            name: self.encode(item, f"{where}.{name}")
            for name, item in sorted(data.items())
            if name != cpython_private.ABC_STATE
        }

    def _function(self, function: types.FunctionType, where: str) -> dict[str, Any]:
        if not self._ours_by_name(function.__module__ or ""):
            return {"cells": [], "holds": None}
        lenient, self._lenient = self._lenient, 0  # the user's own code, whoever holds it
        try:
            return self._own_function(function, where)
        finally:
            self._lenient = lenient

    def _own_function(self, function: types.FunctionType, where: str) -> dict[str, Any]:
        self._want_globals(function)
        held = [list(function.__defaults__ or ()), function.__kwdefaults__ or {}, vars(function)]
        holds = self.encode(held, where) if any(held) else None
        cells = []
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                cells.append(self.encode(cell.cell_contents, f"{name} of {where}"))
            except ValueError:  # an empty cell
                cells.append(EMPTY)
        return {"cells": cells, "holds": holds}

    def _want_globals(self, function: types.FunctionType) -> None:
        module = function.__module__
        self.draws = self.draws or draws(function)
        known = vars(sys.modules.get(module, types.ModuleType("none")))
        for name in global_names(function.__code__):
            if name in known:
                self._wanted[module, name] = None
                inner = known[name]
                if isinstance(inner, types.ModuleType) and self._ours_by_name(inner.__name__):
                    self._wanted |= {
                        (inner.__name__, part): None for part in global_names(function.__code__) if part in vars(inner)
                    }

    def _object(self, value: Any, where: str) -> Encoded:
        import keras

        kind = type(value)
        ours = self._ours(kind)
        if isinstance(value, io.IOBase) or _is_opaque(value):
            return {"constant": f"{kind.__module__}:{kind.__qualname__}"}
        if hasattr(value, "__next__") and not self._lenient:
            raise UncapturableError(
                f"{where} is an iterator ({kind.__name__}), whose place cannot be saved; keep a number instead"
            )
        attributes = _attributes_of(value)
        if attributes is None:
            return {"constant": qualified_name(value)}
        left_out = keras_private.CALLBACK_ATTRIBUTES if isinstance(value, keras.callbacks.Callback) else frozenset()
        if isinstance(value, keras.callbacks.CSVLogger):
            left_out |= {"writer"}
        self.draws |= any(  # what a library's own data draws is not looked into
            issubclass(base, keras.utils.PyDataset) and base is not keras.utils.PyDataset and not self._ours(base)
            for base in kind.__mro__
        )
        self._lenient += not ours
        try:
            encoded = {
                name: self.encode(item, f"{where}.{name}")
                for name, item in sorted(attributes.items())
                if name not in left_out
            }
        finally:
            self._lenient -= not ours
        if isinstance(value, keras.callbacks.CSVLogger) and value.writer is not None:
            encoded["append_header"] = False  # it writes a header with the first line, and makes its writer anew
        of = [
            [qualified_name(base), self.encode(base, qualified_name(base))] for base in kind.__mro__ if self._ours(base)
        ]
        return {"object": {"class": qualified_name(kind), "attributes": encoded, "ours": ours, "of": of}}

    def _ours(self, kind: type) -> bool:
        return self._ours_by_name(kind.__module__)

    def _ours_by_name(self, module: str) -> bool:
        return is_ours(module, self._code)


def _attributes_of(value: Any) -> dict[str, Any] | None:
    """What an object holds under names, also in slots; None where it has none."""
    slots = [name for base in type(value).__mro__ for name in _slots(base) if hasattr(value, name)]
    if not slots and not hasattr(value, "__dict__"):
        return None
    return {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})


def _slots(base: type) -> tuple[str, ...]:
    named_slots = vars(base).get("__slots__", ())
    names = (named_slots,) if isinstance(named_slots, str) else tuple(named_slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _is_opaque(value: Any) -> bool:
    """Whether an object is TensorFlow's or Keras's own, and none that a script is told of the training by."""
    import keras
    import tensorflow as tf

    if isinstance(value, (keras.callbacks.Callback, keras.utils.PyDataset, tf.data.Iterator)):
        return False
    return type(value).__module__.partition(".")[0] in ("tensorflow", "keras")


def _checksum(array: Any) -> int:
    """To see whether a large array has changed."""
    return zlib.crc32(raw_bytes(array))


def _type_of(dtype: Any) -> str:
    """NumPy's own types as it writes them, with the order of bytes; those that others add, as bfloat16, by name."""
    return str(dtype.str if dtype.isbuiltin == 1 or dtype.kind in "SUmM" else dtype.name).replace(">", "<")
