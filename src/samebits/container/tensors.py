"""Digests of tensors, variables and models."""

from collections.abc import Iterable
from typing import Any

from samebits.digest import Digest


def tensor_digest(values: Any) -> Digest:
    """The sha256 of an array's bytes, row-major and little-endian, with neither shape nor type."""
    import numpy as np

    array = np.ascontiguousarray(values)
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian):
        array = array.astype(array.dtype.newbyteorder("<"))
    return Digest.of_bytes(array.tobytes())


def describe_variables(variables: Iterable[Any]) -> list[dict[str, Any]]:
    """Path, type, shape and digest of each variable, in the order given."""
    return [
        {
            "path": getattr(variable, "path", variable.name),
            "dtype": str(getattr(variable.dtype, "name", variable.dtype)),
            "shape": [int(size) for size in variable.shape],
            "digest": str(tensor_digest(variable.numpy())),
        }
        for variable in variables
    ]


def group_digest(described: list[dict[str, Any]]) -> str:
    """One digest for a group of described variables."""
    return str(Digest.of_json(described))


def model_variables(model: Any) -> dict[str, list[Any]]:
    """A model's variables by group; its optimizer's where it has one that is built."""
    optimizer = getattr(model, "optimizer", None)
    groups = {"trainable": list(model.trainable_weights), "non_trainable": list(model.non_trainable_weights)}
    if optimizer is not None and optimizer.built:
        groups["optimizer"] = list(optimizer.variables)
    return groups
