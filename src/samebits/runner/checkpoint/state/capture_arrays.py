"""Captures arrays, tensors, variables and random generators as JSON and bytes."""

import base64
import random
from collections.abc import Mapping
from typing import Any

from samebits.core.digest import Digest
from samebits.runner.checkpoint.state.array_layout import described_array, strides_of
from samebits.runner.checkpoint.state.capture_containers import Encode, with_class
from samebits.runner.checkpoint.state.encoding import Encoded, UncapturableError, qualified_name
from samebits.runner.checkpoint.state.generators import seeds_as_json, seeds_of
from samebits.runner.checkpoint.state.global_rngs import generator_kinds
from samebits.runner.checkpoint.state.keras_state import plain_text
from samebits.runner.checkpoint.state.library_objects import content_digest, is_symbolic
from samebits.runner.compat import keras_private, multi_worker
from samebits.runner.digests.tensors import raw_bytes, values_of

_INLINE_BYTES = 4096  # arrays up to this size are stored in the JSON itself
_LARGE_BYTES = 16 << 20  # arrays from this size on are stored only if they changed

LargeArrays = dict[int, tuple[Any, Digest]]
"""The large arrays that existed when training began, each with its digest, by `id`."""


class ArrayCapture:
    """Captures what consists of numbers. `contents` are the bytes that the JSON refers to by digest.

    `known` has values and digests of variables that were read already. An `initial` walk remembers the `large` arrays.
    """

    def __init__(
        self, encode: Encode, large: LargeArrays, known: Mapping[int, tuple[Any, Digest]], *, initial: bool
    ) -> None:
        self._encode = encode
        self._large = large
        self._known = known
        self._initial = initial
        self.contents: dict[str, Any] = {}
        self._bits: dict[int, str] = {}
        self.generators: set[int] = set()
        """The random generators that were captured, by `id`."""

    def array_or_variable(self, value: Any, where: str) -> Encoded | None:
        """An array, tensor or variable as JSON; None for other values. Raises UncapturableError."""
        import keras
        import numpy as np
        import tensorflow as tf

        if isinstance(value, (keras.Variable, tf.Variable)):
            return {"variable": self._variable(value) | self._attributes(value, where)}
        if isinstance(value, np.ndarray):
            return self._numpy_array(value, where)
        if isinstance(value, tf.Tensor) and hasattr(value, "numpy") and value.dtype not in (tf.resource, tf.variant):
            return unsaved(value, where) if value.dtype == tf.string else {"tensor": self.array(value.numpy())}
        return None

    def _numpy_array(self, value: Any, where: str) -> Encoded:
        import numpy as np

        if value.dtype.hasobject or value.dtype.names or isinstance(value, np.ma.MaskedArray):
            return unsaved(value, where)
        if value.nbytes >= _LARGE_BYTES and self._is_unchanged(value):
            return {"unchanged": described_array(value)}
        # The checkpoint is written later, when the script may have changed the array.
        held = self.array(value.copy() if value.flags.writeable or value.base is not None else value)
        if (strides := strides_of(value)) is not None:
            held["strides"] = strides
        if value.dtype.byteorder == ">":
            held["big_endian"] = True
        if not value.flags.writeable:
            held["read_only"] = True
        return with_class({"array": held}, value)

    def _is_unchanged(self, large: Any) -> bool:
        """Whether a large array is as it was when training began; at that time, it is remembered."""
        if self._initial:
            self._large[id(large)] = large, _digest(large)
            return True
        return id(large) in self._large and self._large[id(large)][1] == _digest(large)

    def _variable(self, value: Any) -> dict[str, Any]:
        array, digest = self._known.get(id(value), (None, None))
        # To read one of several workers' sums would add them up.
        return self.array(values_of(multi_worker.own_part(value)) if array is None else array, digest)

    def _attributes(self, value: Any, where: str) -> dict[str, Any]:
        """What a script keeps on a variable."""
        known = keras_private.library_names(type(value))
        own = [name for name in vars(value) if not name.startswith("_") and name not in known]
        return {"attributes": {name: self._encode(vars(value)[name], f"{where}.{name}") for name in own}} if own else {}

    def array(self, value: Any, digest: Digest | None = None) -> dict[str, Any]:
        """An array of numbers as JSON."""
        about = {"dtype": _dtype_name(value.dtype), "shape": [int(size) for size in value.shape]}
        # Small arrays inline, to avoid thousands of tiny files.
        raw = raw_bytes(value)
        if len(raw) <= _INLINE_BYTES:
            return about | {"in": base64.b64encode(raw).decode()}
        name = str(digest or Digest.of_bytes(raw))
        self.contents[name] = raw
        return about | {"at": name}

    def generator(self, value: Any, where: str) -> Encoded | None:
        """A random generator as JSON; None for other values. Raises UncapturableError."""
        import numpy as np
        import tensorflow as tf

        if isinstance(value, generator_kinds()):
            self.generators.add(id(value))
        if isinstance(value, random.Random):
            if isinstance(value, random.SystemRandom):
                raise UncapturableError(f"{where} draws from the operating system; use a seeded generator")
            version, state, gauss = value.getstate()
            return {"python_random": [version, list(state), None if gauss is None else gauss.hex()]}
        if isinstance(value, np.random.RandomState):
            return {"numpy_state": self._encode(value.get_state(legacy=False), where)}
        if isinstance(value, tf.random.Generator):
            return {"tensorflow_generator": self._encode(value.state, where)}  # a variable
        if isinstance(value, np.random.Generator):
            return {"numpy_generator": self._numpy_generator(value, where)}
        if isinstance(value, np.random.SeedSequence):
            return {"seed_sequence": seeds_as_json(value)}
        return None

    def _numpy_generator(self, value: Any, where: str) -> dict[str, Any]:
        bits = value.bit_generator
        found = {"state": self._encode(bits.state, where), "seeds": seeds_as_json(seeds_of(value))}
        first = self._bits.setdefault(id(bits), where)
        return found if first == where else found | {"shares": first}


def unsaved(value: Any, where: str) -> Encoded:
    """A value that cannot be restored, by a digest of its content: it must not change. Raises UncapturableError."""
    return {"unsaved": [qualified_name(type(value)), content_digest(value, where)]}


def frozen_value(value: Any) -> Encoded | None:
    """A variable without its values, or a tensor, without a number: a graph may hold others in their place."""
    import keras
    import tensorflow as tf

    if isinstance(value, (keras.Variable, tf.Variable, tf.random.Generator, keras.random.SeedGenerator)):
        return {"constant": "variable"}
    if isinstance(value, tf.Tensor) and not is_symbolic(value):
        return {"tensor": plain_text(value.numpy())} if value.dtype not in (tf.resource, tf.variant) else None
    return None


def _digest(array: Any) -> Digest:
    return Digest.of_bytes(raw_bytes(array))


def _dtype_name(dtype: Any) -> str:
    """NumPy's own types with their byte order, such as `<f4`; types that others add by name, such as `bfloat16`."""
    return str(dtype.str if dtype.isbuiltin != 2 else dtype.name).replace(">", "<")
