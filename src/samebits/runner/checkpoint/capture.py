"""Captures the state of Python objects that training changes, as JSON and bytes. `restore` is the inverse.

The walk starts at given roots (callbacks, a model, a PyDataset). It follows attributes, containers, and what the
script's own functions refer to: closures and globals. Modules of libraries are not walked. The global random generators
of libraries are captured by `global_rngs`.
"""

import base64
import enum
import io
import random
import sys
import types
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.runner.checkpoint.capture_code import CodeCapture
from samebits.runner.checkpoint.capture_containers import encode_container
from samebits.runner.checkpoint.code_inspection import is_ours
from samebits.runner.checkpoint.encoding import PLAIN, Encoded, PathMap, UncapturableError, qualified_name
from samebits.runner.checkpoint.global_rngs import generator_kinds
from samebits.runner.checkpoint.keras_state import build_of, fixed_of, parts_of, variables_of
from samebits.runner.checkpoint.object_inspection import attributes_of, draws_unseen, is_opaque
from samebits.runner.compat import keras_private
from samebits.runner.digests.tensors import raw_bytes, values_of

_INLINE_BYTES = 4096  # arrays up to this size are stored in the JSON itself
_LARGE_BYTES = 16 << 20  # arrays from this size on are stored only if they changed


class StateWalker:
    """Captures state, and remembers the large arrays that existed when training began.

    `code` is the folder of the script's modules. `folders` are paths that differ between runs. Large unchanged arrays,
    typically the data, are not stored: the script creates them again when it is resumed.
    """

    def __init__(self, code: Path, folders: PathMap) -> None:
        self._code = str(code)
        self._folders = folders
        self._large: dict[int, tuple[Any, int]] = {}

    def check_globals(self, saved: Iterable[list[Any]]) -> None:
        """Raise RecordError if a saved global does not belong to one of the script's modules."""
        for module, name, _ in saved:
            if not is_ours(module, self._code) or name not in vars(sys.modules[module]):
                raise RecordError(f"a checkpoint names {module}.{name}, which is not a global of the script")

    def capture_initial(self, roots: Mapping[str, Any]) -> "StateCapture":
        """Capture the state before training begins, and remember its large arrays. Raises UncapturableError."""
        self._large = {}
        captured = StateCapture(self._code, self._folders, self._large, initial=True)
        captured.capture_roots(roots)
        return captured

    def capture(
        self, roots: Mapping[str, Any], known: Mapping[int, tuple[Any, Digest]] | None = None
    ) -> "StateCapture":
        """Capture the state. Raises UncapturableError.

        `known` has values and digests of variables that were read already, by the `id` of the variable.
        """
        captured = StateCapture(self._code, self._folders, self._large, known)
        captured.capture_roots(roots)
        return captured


class StateCapture:
    """One walk over the state. `encoded` is the JSON, `contents` the bytes that it refers to by digest."""

    def __init__(
        self,
        code: str,
        folders: PathMap,
        large: dict[int, tuple[Any, int]],
        known: Mapping[int, tuple[Any, Digest]] | None = None,
        *,
        initial: bool = False,
    ) -> None:
        self._folder = code
        self._folders = folders
        self._large = large
        self._initial = initial
        self._known = known or {}
        self._numbers: dict[int, int] = {}
        # An `id` stays unique only while its object is alive.
        self._alive: list[Any] = []
        self._lenient = 0
        self._code = CodeCapture(code, self.encode, self._strict)
        self._draws = False
        self.contents: dict[str, Any] = {}
        self.optimizers: list[Any] = []
        self.encoded: dict[str, Any] = {}

    @property
    def draws(self) -> bool:
        """Whether the captured objects may draw random numbers."""
        return self._draws or self._code.draws

    def visited(self, value: Any) -> bool:
        """Whether the walk visited this object."""
        return id(value) in self._numbers

    def capture_roots(self, roots: Mapping[str, Any]) -> None:
        """Walk from these roots, then over the globals that visited functions refer to."""
        found = [[name, self.encode(value, name)] for name, value in roots.items()]
        saved: list[list[Any]] = []
        # Capturing a global may discover further globals.
        while len(saved) < len(self._code.globals):
            module, name = list(self._code.globals)[len(saved)]
            saved.append([module, name, self.encode(vars(sys.modules[module])[name], f"{module}.{name}")])
        self.encoded = {"roots": found, "globals": saved}

    def encode(self, value: Any, where: str) -> Encoded:
        """A value as JSON; `where` says in messages where it was found."""
        import numpy as np

        # Text may contain paths of this run.
        if type(value) is str:
            return self._folders.leave(value)
        if type(value) in PLAIN:
            return value
        # Decimal digits could lose bits; NumPy's float64 is a subclass of float.
        if isinstance(value, float) and not isinstance(value, np.generic):
            return {"float": float(value).hex()}
        if id(value) in self._numbers:
            return {"again": self._numbers[id(value)]}
        plain = self._immutable(value)
        return self._numbered(value, where) if plain is None else plain

    def _numbered(self, value: Any, where: str) -> Encoded:
        """An object that may be referred to more than once."""
        # The number is assigned first, as the object may contain itself.
        number = self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        for encoder in (self._array_or_variable, self._random, self._keras, self._container, self._code.encode):
            found = encoder(value, where)
            if found is not None:
                break
        else:
            found = self._object(value, where)
        return {**found, "#": number}

    def _container(self, value: Any, where: str) -> Encoded | None:
        return encode_container(value, where, self.encode)

    @contextmanager
    def _strict(self) -> Iterator[None]:
        lenient, self._lenient = self._lenient, 0
        try:
            yield
        finally:
            self._lenient = lenient

    def _immutable(self, value: Any) -> Encoded | None:  # noqa: PLR0911  one kind after the other
        """A value without identity as JSON; None for other values."""
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
        # The attributes of the script's own classes may change during training.
        if isinstance(value, type) and self._ours(value) and not issubclass(value, enum.Enum):
            return None
        if isinstance(value, enum.Enum):
            return {"member": {"class": qualified_name(type(value)), "name": value.name}}
        return (
            {"constant": qualified_name(value)} if isinstance(value, (type, types.ModuleType, range, slice)) else None
        )

    def _array_or_variable(self, value: Any, where: str) -> Encoded | None:
        import keras
        import numpy as np
        import tensorflow as tf

        if isinstance(value, (keras.Variable, tf.Variable)):
            return {"variable": self._variable(value)}
        if isinstance(value, np.ndarray):
            return self._numpy_array(value, where)
        if isinstance(value, tf.Tensor) and hasattr(value, "numpy") and value.dtype not in (tf.resource, tf.variant):
            return (
                {"constant": qualified_name(value)}
                if value.dtype == tf.string
                else {"tensor": self._array(value.numpy())}
            )
        return None

    def _numpy_array(self, value: Any, where: str) -> Encoded:
        import numpy as np

        if value.dtype.hasobject or value.dtype.names or isinstance(value, np.ma.MaskedArray):
            raise UncapturableError(f"{where} is an array of Python objects, or structured, or masked; use numbers")
        if value.nbytes >= _LARGE_BYTES and self._is_unchanged(value):
            return {"unchanged": qualified_name(value)}
        # The checkpoint is written later, when the script may have changed the array.
        return {"array": self._array(value.copy() if value.flags.writeable or value.base is not None else value)}

    def _is_unchanged(self, large: Any) -> bool:
        """Whether a large array is as it was when training began; at that time, it is remembered."""
        if self._initial:
            self._large[id(large)] = large, _checksum(large)
            return True
        return id(large) in self._large and self._large[id(large)][1] == _checksum(large)

    def _variable(self, value: Any) -> dict[str, Any]:
        array, digest = self._known.get(id(value), (None, None))
        return self._array(values_of(value) if array is None else array, digest)

    def _array(self, value: Any, digest: Digest | None = None) -> dict[str, Any]:
        about = {"dtype": _dtype_name(value.dtype), "shape": [int(size) for size in value.shape]}
        # Small arrays inline, to avoid thousands of tiny files.
        raw = raw_bytes(value)
        if len(raw) <= _INLINE_BYTES:
            return about | {"in": base64.b64encode(raw).decode()}
        name = str(digest or Digest.of_bytes(raw))
        self.contents[name] = raw
        return about | {"at": name}

    def _random(self, value: Any, where: str) -> Encoded | None:
        import numpy as np
        import tensorflow as tf

        self._draws |= isinstance(value, generator_kinds())
        if isinstance(value, random.Random):
            if isinstance(value, random.SystemRandom):
                raise UncapturableError(f"{where} draws from the operating system; use a seeded generator")
            version, state, gauss = value.getstate()
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
            return {"optimizer": self._optimizer(value, where)}
        if isinstance(value, keras.random.SeedGenerator):
            self._draws = True
            return {"layer": {"variables": [self.encode(value.state, where)], "attributes": {}}}
        if not isinstance(value, (keras.layers.Layer, keras.metrics.Metric, keras.losses.Loss)):
            return None
        variables = [self.encode(variable, f"{where}'s variables") for variable in variables_of(value)]
        attributes = {name: self.encode(item, f"{where}.{name}") for name, item in sorted(parts_of(value))}
        # Python values that a graph was traced with must not change; see `restorability`.
        fixed = fixed_of(value, self._ours)
        return {"layer": {"variables": variables, "attributes": attributes, "fixed": fixed, **build_of(value)}}

    def _optimizer(self, value: Any, where: str) -> dict[str, Any]:
        self.optimizers.append(value)
        # The restorer builds an optimizer from the variables that it trains.
        trained = keras_private.optimizer_variables(value) if value.built else []
        return {
            "trained": [self.encode(variable, f"{where}'s variables") for variable in trained],
            "variables": [self.encode(variable, f"{where}'s variables") for variable in value.variables],
            "built": bool(value.built),
        }

    def _object(self, value: Any, where: str) -> Encoded:
        kind = type(value)
        # Files are handled by `output_files`, and internals of libraries created again.
        if isinstance(value, io.IOBase) or is_opaque(value):
            return {"constant": f"{kind.__module__}:{kind.__qualname__}"}
        # Iterators inside objects of libraries are tolerated: the library's own code creates them again.
        if hasattr(value, "__next__") and not self._lenient:
            raise UncapturableError(
                f"{where} is an iterator ({kind.__name__}), whose position cannot be saved; store a counter instead"
            )
        attributes = attributes_of(value)
        if attributes is None:
            return {"constant": qualified_name(value)}
        # The code of a library's PyDataset is not inspected.
        self._draws |= draws_unseen(kind, self._ours)
        encoded = self._attributes(value, attributes, where)
        bases = [
            [qualified_name(base), self.encode(base, qualified_name(base))] for base in kind.__mro__ if self._ours(base)
        ]
        return {"object": {"class": qualified_name(kind), "attributes": encoded, "ours": self._ours(kind), "of": bases}}

    def _attributes(self, value: Any, attributes: Mapping[str, Any], where: str) -> dict[str, Encoded]:
        import keras

        is_csv_logger = isinstance(value, keras.callbacks.CSVLogger)
        left_out = keras_private.CALLBACK_ATTRIBUTES if isinstance(value, keras.callbacks.Callback) else frozenset()
        left_out |= {"writer"} if is_csv_logger else set()
        lenient = not self._ours(type(value))
        self._lenient += lenient
        try:
            encoded = {
                name: self.encode(item, f"{where}.{name}")
                for name, item in sorted(attributes.items())
                if name not in left_out
            }
        finally:
            self._lenient -= lenient
        # A CSVLogger creates its writer at the first line, and would then write a second header.
        if is_csv_logger and value.writer is not None:
            encoded["append_header"] = False
        return encoded

    def _ours(self, kind: type) -> bool:
        return is_ours(kind.__module__, self._folder)


def _checksum(array: Any) -> int:
    """Fast, and enough to notice an accidental change."""
    return zlib.crc32(raw_bytes(array))


def _dtype_name(dtype: Any) -> str:
    """NumPy's own types with their byte order, such as `<f4`; types that others add by name, such as `bfloat16`."""
    return str(dtype.str if dtype.isbuiltin == 1 or dtype.kind in "SUmM" else dtype.name).replace(">", "<")
