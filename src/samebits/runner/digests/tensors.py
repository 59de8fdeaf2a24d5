"""Digests of tensors, variables and models."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from samebits.core.digest import Digest, digest_threads
from samebits.core.jsonio import canonical_json
from samebits.runner.compat.keras_private import inner_variable
from samebits.runner.compat.tensorflow_private import eager_values, read_together

_MIN_PARALLEL_BYTES = 1 << 20
"""Below this, digesting takes less time than waking threads."""


VariableGroups = Mapping[str, Sequence[Any]]
DescribedGroups = Mapping[str, Sequence[Mapping[str, Any]]]
Comparison = Callable[[int, str, VariableGroups, DescribedGroups], object]
"""Called with the number of a ledger's line, its place in words, and variables and their descriptions by group."""


def ignore_comparison(*_: object) -> None:
    """The comparison of a run with one worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DescribedTensor:
    """An array and its description: path, type, shape and the like."""

    about: dict[str, Any]
    array: Any

    def described(self, digest: Digest) -> dict[str, Any]:
        """The description with the digest, as ledger and result hold it."""
        return self.about | {"digest": str(digest)}


def tensor_digest(values: Any) -> Digest:
    """The sha256 of an array's bytes, row-major and little-endian. Shape and type are not part of it."""
    return Digest(hashlib.sha256(raw_bytes(values)).hexdigest())


def raw_bytes(values: Any) -> Any:
    """An array's bytes, row-major and little-endian. They are copied only where their layout differs.

    Of strings these are, one after the other, eight bytes of length and the string's bytes.
    """
    import numpy as np

    # A fixed byte order, so that digests agree between machines.
    array = np.ascontiguousarray(values)
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian):
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.dtype.hasobject:  # its own bytes are addresses
        strings = [item.encode() if isinstance(item, str) else item for item in array.reshape(-1)]
        return b"".join(len(item).to_bytes(8, "little") + item for item in strings)
    return array.reshape(-1).view("uint8")


def strings_of(raw: bytes) -> Iterator[bytes]:
    """The strings whose `raw_bytes` these are."""
    start = 0
    while start < len(raw):
        end = start + 8 + int.from_bytes(raw[start : start + 8], "little")
        yield raw[start + 8 : end]
        start = end


def named_variables(variables: Iterable[Any]) -> list[DescribedTensor]:
    """Path, type, shape and values of each variable, in the order given."""
    listed = [*variables]
    return [
        DescribedTensor(
            about={
                "path": getattr(variable, "path", variable.name),
                "dtype": type_name(variable),
                "shape": [int(size) for size in variable.shape],
            },
            array=array,
        )
        for variable, array in zip(listed, arrays_of(listed), strict=True)
    ]


def describe_variables(variables: Iterable[Any]) -> list[dict[str, Any]]:
    """Path, type, shape and digest of each variable, in the order given."""
    return describe_tensor(named_variables(variables))


def describe_tensor(
    named: Sequence[DescribedTensor], keep: Callable[[Digest, Any], object] | None = None
) -> list[dict[str, Any]]:
    """Each description with its digest, in the order given. `keep` is called with each digest and its bytes."""
    # Variables that share one array are digested once.
    distinct = {id(item.array): raw_bytes(item.array) for item in named}
    digests = dict(zip(distinct, _digests([*distinct.values()]), strict=True))
    if keep is not None:
        for key, content in distinct.items():
            keep(digests[key], content)
    return [item.described(digests[id(item.array)]) for item in named]


def type_name(values: Any) -> str:
    """The element type of a tensor or variable of Keras or TensorFlow, such as `float32`."""
    return str(getattr(values.dtype, "name", values.dtype))


def group_digest(described: list[dict[str, Any]]) -> str:
    """One digest for a group of described variables."""
    return str(Digest.of_json(described))


def locating_digest(variables: Sequence[Any]) -> str:
    """One fast digest for a group of variables: `xxh3-128:` and 32 hex digits.

    Covers the path, type, shape and bytes of each, in the order given. It shows where two trainings diverge, and
    certifies nothing: the digests of epochs and results do. `sha256:` in an environment without xxhash, as older locks
    make it.
    """
    name, state = _fast_hash()
    for variable, array in zip(variables, arrays_of(variables), strict=True):
        dtype = type_name(variable) if array.dtype.hasobject else array.dtype
        state.update(_canonical_description(getattr(variable, "path", variable.name), dtype, array.shape))
        state.update(raw_bytes(array))
    return f"{name}:{state.hexdigest()}"


@functools.lru_cache(maxsize=1 << 16)
def _canonical_description(path: str, dtype: Any, shape: tuple[int, ...]) -> bytes:
    """What a fast digest covers beside a variable's bytes. Kept, as each step needs it for hundreds of variables."""
    return canonical_json({"path": path, "dtype": str(dtype), "shape": list(shape)})


def _fast_hash() -> tuple[str, Any]:
    """The name of the fastest hash that is here, and its state for new bytes."""
    try:
        import xxhash
    except ImportError:
        return "sha256", hashlib.sha256()
    return "xxh3-128", xxhash.xxh3_128()


def group_digests(groups: Mapping[str, Iterable[Any]]) -> dict[str, str]:
    """The digest of each group of variables, as a line of the ledger holds it."""
    return {name: group_digest(describe_variables(variables)) for name, variables in groups.items()}


def located_digests(groups: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """The fast digest of each group of variables, as the line of a step holds it."""
    return {name: locating_digest(variables) for name, variables in groups.items()}


def model_variables(model: Any) -> dict[str, list[Any]]:
    """A model's variables by group, including those of a built optimizer."""
    # An optimizer that never made a step has no variables yet.
    optimizer = getattr(model, "optimizer", None)
    groups = {"trainable": list(model.trainable_weights), "non_trainable": list(model.non_trainable_weights)}
    if optimizer is not None and optimizer.built:
        groups["optimizer"] = list(optimizer.variables)
    return groups


def values_of(variable: Any) -> Any:
    """A variable's values as an array: TensorFlow's own memory where that is accessible, else a copy.

    TensorFlow does not write to memory that is still referenced, but allocates new memory. Release the array soon.
    """
    import tensorflow as tf

    inner = inner_variable(variable)
    try:
        # Not `read_value`, which takes four times as long.
        return eager_values(tf.raw_ops.ReadVariableOp(resource=inner.handle, dtype=inner.dtype))
    except (AttributeError, ValueError):  # a variable that is distributed over devices has no handle
        return variable.numpy()


def arrays_of(variables: Sequence[Any]) -> list[Any]:
    """The values of each variable as `values_of` returns them, read at once where they are on one device."""
    import tensorflow as tf

    try:
        return read_together([inner_variable(variable) for variable in variables])
    except (AttributeError, ImportError, TypeError, ValueError, tf.errors.OpError):
        return [values_of(variable) for variable in variables]


def _digests(arrays: Sequence[Any]) -> list[Digest]:
    """The sha256 of each array. Large ones use several threads: hashlib releases the interpreter's lock."""
    found: list[Digest | None] = [None] * len(arrays)

    def work(share: Sequence[int]) -> None:
        for index in share:
            found[index] = Digest(hashlib.sha256(arrays[index]).hexdigest())

    sizes = [len(array) for array in arrays]
    if sum(sizes) < _MIN_PARALLEL_BYTES:
        work(range(len(arrays)))
    else:
        list(_thread_pool().map(work, _shares(sizes, digest_threads())))
    return [digest for digest in found if digest is not None]


def _shares(sizes: Sequence[int], number: int) -> list[list[int]]:
    """Indices in shares of about equal size: the largest first, each into the smallest share."""
    shares: list[list[int]] = [[] for _ in range(number)]
    filled = [0] * number
    for index in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        smallest = filled.index(min(filled))
        shares[smallest].append(index)
        filled[smallest] += sizes[index]
    return shares


@functools.cache
def _thread_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(digest_threads(), thread_name_prefix="samebits-digest")
