"""The distance between two tensors whose values are kept: in `models/`, or for a traced step in `tensors/`.

Values are found by digest, and checked against it.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.result import TensorDescription
from samebits.core.run_dir import RunDir
from samebits.core.run_files import open_plain, plain_names, read_plain
from samebits.core.weights_file import stored_places

_MAX_TENSOR_BYTES = 16 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Distance:
    """The largest distance between two elements: as a number, and in ULPs.

    `absolute` is None if it is NaN or infinite, `ulps` if the type is not a float. `differing` of `elements` differ.
    """

    absolute: float | None
    ulps: int | None
    differing: int
    elements: int

    def __str__(self) -> str:
        """The end of a line: `1 of 3 values differ, by 1 at most, 4194304 ULPs`."""
        parts = [f"{self.differing} of {self.elements} values differ"]
        if self.absolute is not None:
            parts.append(f"by {self.absolute:.3g} at most")
        if self.ulps is not None:
            parts.append(f"{self.ulps} ULP{'s' if self.ulps != 1 else ''}")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The form in JSON."""
        return {
            "absolute": None if self.absolute is None else self.absolute.hex(),
            "ulps": self.ulps,
            "differing": self.differing,
            "elements": self.elements,
        }


class TensorStore:
    """The tensors that a run keeps, by digest. Its models are read once, and only if `tensors/` lacks a digest."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._models: dict[str, tuple[Path, int, int]] | None = None

    def find(self, digest: str) -> bytes | None:
        """The bytes of a tensor, row-major and little-endian; None if the run does not keep it."""
        with suppress(OSError):
            # A traced step keeps its tensors as plain files, named by digest.
            values = read_plain(self._run.tensors / Digest.parse(digest).hex, _MAX_TENSOR_BYTES, self._run.path)
            return values if str(Digest.of_bytes(values)) == digest else None
        # Hashing all models takes seconds, so it is done only once it is needed.
        if self._models is None:
            self._models = dict(self._in_models())
        return self._read(*self._models[digest], digest) if digest in self._models else None

    def _in_models(self) -> Iterator[tuple[str, tuple[Path, int, int]]]:
        """The digest of every array in the models, with its file, its place there and its size."""
        names: list[str] = []
        with suppress(OSError):
            names = sorted(plain_names(self._run.models))
        for path in (self._run.models / name for name in names):
            # A damaged or foreign model file only costs the distance, which is additional information.
            for digest, place in stored_places(path, self._run.path).items():
                yield digest, (path, *place)

    def _read(self, path: Path, begin: int, size: int, digest: str) -> bytes | None:
        if size > _MAX_TENSOR_BYTES:
            return None
        with suppress(OSError), open_plain(path, self._run.path) as file:
            file.seek(begin)
            values = file.read(size)
            # The file may be another one by now.
            return values if str(Digest.of_bytes(values)) == digest else None
        return None


def tensor_distance(
    one: TensorDescription, other: TensorDescription, stores: tuple[TensorStore, TensorStore]
) -> Distance | None:
    """The distance of two tensors, described as in records; None if a value is not kept or the shapes differ."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return None
    values = [side.find(item.digest) for side, item in zip(stores, (one, other), strict=True)]
    if values[0] is None or values[1] is None:
        return None
    return measure_distance(values[0], values[1], one.dtype)


def measure_distance(one: bytes, other: bytes, dtype: str) -> Distance | None:
    """The distance of two tensors by their bytes; None for an unsupported type."""
    import numpy as np

    # Floats are compared by their bit patterns, so that NaN equals the same NaN.
    bits = {"float16": np.uint16, "bfloat16": np.uint16, "float32": np.uint32, "float64": np.uint64}.get(dtype)
    if bits is not None:
        patterns = [np.frombuffer(values, dtype=bits) for values in (one, other)]
        # Neighbouring floats are neighbouring integers in this order, so a difference counts ULPs. Unsigned integers
        # cannot be subtracted the other way round.
        ordered = [_ordered(pattern) for pattern in patterns]
        ulps = np.maximum(*ordered) - np.minimum(*ordered)
        numbers = [_as_numbers(pattern, dtype) for pattern in patterns]
    elif dtype in {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"}:
        patterns = [np.frombuffer(values, dtype=dtype) for values in (one, other)]
        ulps, numbers = None, [pattern.astype(np.float64) for pattern in patterns]
    else:
        return None
    differing = int(np.count_nonzero(patterns[0] != patterns[1]))
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        largest = float(np.max(np.abs(numbers[0] - numbers[1]), initial=0.0))
    return Distance(
        absolute=largest if np.isfinite(largest) else None,
        ulps=None if ulps is None else int(np.max(ulps, initial=0)),
        differing=differing,
        elements=int(patterns[0].size),
    )


def _ordered(pattern: Any) -> Any:
    """The bits of floats as integers in the floats' own order; +0 and -0 differ by one."""
    import numpy as np

    # Negative floats are ordered backwards by their bits.
    sign = pattern.dtype.type(1 << (pattern.dtype.itemsize * 8 - 1))
    return np.where(pattern & sign, ~pattern, pattern | sign)


def _as_numbers(pattern: Any, dtype: str) -> Any:
    import numpy as np

    if dtype == "bfloat16":  # the upper half of a float32
        return (pattern.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    return pattern.view(dtype).astype(np.float64)
