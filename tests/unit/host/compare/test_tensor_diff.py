"""Distances between tensors, as numbers and in ULPs, and where their values are found."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.core.digest import Digest
from samebits.core.result import TensorDescription
from samebits.core.run_dir import RunDir
from samebits.host.compare.tensor_diff import Distance, TensorStore, measure_distance, tensor_distance


def _bytes(values: Any, dtype: str = "float32") -> bytes:
    return bytes(np.asarray(values, dtype=dtype).tobytes())


_UP = np.nextafter(np.float32(1), np.float32(2))


@pytest.mark.parametrize(
    ("dtype", "one", "other", "expected"),
    [
        ("float32", [1, 2], [1, 2], Distance(absolute=0.0, ulps=0, differing=0, elements=2)),
        ("float32", [1, 2], [_UP, 2], Distance(absolute=2.0**-23, ulps=1, differing=1, elements=2)),
        ("float32", [0.0], [-0.0], Distance(absolute=0.0, ulps=1, differing=1, elements=1)),
        ("float32", [-1], [1], Distance(absolute=2.0, ulps=2 * 127 * 2**23 + 1, differing=1, elements=1)),
        ("float32", [1, 5], [np.inf, 5], Distance(absolute=None, ulps=2**30, differing=1, elements=2)),
        ("float64", [1], [np.nextafter(1.0, 2.0)], Distance(absolute=2.0**-52, ulps=1, differing=1, elements=1)),
        ("float16", [1], [1 + 2.0**-10], Distance(absolute=2.0**-10, ulps=1, differing=1, elements=1)),
        ("int32", [1, 7], [4, 7], Distance(absolute=3.0, ulps=None, differing=1, elements=2)),
        ("bool", [True], [False], Distance(absolute=1.0, ulps=None, differing=1, elements=1)),
        ("float32", [], [], Distance(absolute=0.0, ulps=0, differing=0, elements=0)),
    ],
)  # fmt: skip
def test_measure(dtype: str, one: list[Any], other: list[Any], expected: Distance) -> None:
    assert measure_distance(_bytes(one, dtype), _bytes(other, dtype), dtype) == expected
    assert measure_distance(_bytes(other, dtype), _bytes(one, dtype), dtype) == expected


def test_types_that_numpy_does_not_know() -> None:
    one, next_up = (np.array([bits], np.uint16).tobytes() for bits in (0x3F80, 0x3F81))  # 1 and 1.0078125 as bfloat16
    assert measure_distance(one, next_up, "bfloat16") == Distance(absolute=2.0**-7, ulps=1, differing=1, elements=1)
    assert measure_distance(b"a", b"b", "string") is None


@given(
    st.lists(st.floats(width=32, max_value=2.0**127, allow_nan=False, allow_infinity=False), min_size=1),
    st.integers(1, 100),
)
def test_ulps_count_the_floats_between(values: list[float], steps: int) -> None:
    one = np.asarray(values, np.float32)
    other = one.copy()
    for _ in range(steps):
        other[0] = np.nextafter(other[0], np.float32(np.inf))
    found = measure_distance(one.tobytes(), other.tobytes(), "float32")
    assert found is not None
    # Zero is crossed in one step more, as it is there twice.
    crossed = np.signbit(one[0]) and not np.signbit(other[0])
    assert found.ulps == steps + bool(crossed)


@pytest.mark.parametrize(
    ("far", "text"),
    [
        (Distance(absolute=0.5, ulps=1, differing=1, elements=4), "1 of 4 values differ, by 0.5 at most, 1 ULP"),
        (Distance(absolute=None, ulps=7, differing=2, elements=4), "2 of 4 values differ, 7 ULPs"),
        (Distance(absolute=3.0, ulps=None, differing=2, elements=4), "2 of 4 values differ, by 3 at most"),
    ],
)
def test_in_words(far: Distance, text: str) -> None:
    assert str(far) == text


def _described(values: bytes, shape: list[int], dtype: str = "float32") -> TensorDescription:
    digest = str(Digest.of_bytes(values))
    return TensorDescription(path="a/kernel", dtype=dtype, shape=tuple(shape), digest=digest)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[RunDir, RunDir]:
    """Two runs that keep nothing yet."""
    for name in ("one", "other"):
        (tmp_path / name / "models").mkdir(parents=True)
    return RunDir(tmp_path / "one"), RunDir(tmp_path / "other")


def test_values_are_found_by_their_digest(runs: tuple[RunDir, RunDir]) -> None:
    """In a `.keras` archive, in a file of weights, among the tensors of a step: wherever, under whatever name."""
    first, second = np.float32([1, 2]), np.float32([1, 4])
    with h5py.File(runs[0].models / "w.h5", "w") as file:
        file["layers/dense/vars/0"] = first
        file["layers/dense/vars/1"] = second
    with zipfile.ZipFile(runs[1].models / "0-m.keras", "w") as archive:
        archive.write(runs[0].models / "w.h5", "model.weights.h5")
    (runs[0].models / "w.h5").rename(runs[0].models / "0-m.weights.h5")
    kept = TensorStore(runs[0]), TensorStore(runs[1])
    pair = _described(first.tobytes(), [2]), _described(second.tobytes(), [2])
    found = tensor_distance(*pair, kept)
    assert found == Distance(absolute=2.0, ulps=2**23, differing=1, elements=2)
    unknown = _described(b"another", [2])
    assert tensor_distance(unknown, pair[1], kept) is None
    assert tensor_distance(replace(pair[0], shape=(1, 2)), pair[1], kept) is None
    assert tensor_distance(replace(pair[0], dtype="int32"), pair[1], kept) is None


def test_a_tensor_of_a_step_checks_itself(runs: tuple[RunDir, RunDir]) -> None:
    values = _bytes([1, 2])
    runs[0].tensors.mkdir()
    path = runs[0].tensors / Digest.of_bytes(values).hex
    path.write_bytes(values)
    assert TensorStore(runs[0]).find(str(Digest.of_bytes(values))) == values
    path.write_bytes(_bytes([1, 3]))
    assert TensorStore(runs[0]).find(str(Digest.of_bytes(values))) is None


def test_models_that_cannot_be_read(runs: tuple[RunDir, RunDir]) -> None:
    (runs[0].models / "0-a.keras").write_bytes(b"no archive")
    (runs[0].models / "0-a.weights.h5").write_bytes(b"no weights")
    with zipfile.ZipFile(runs[0].models / "1-b.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert TensorStore(runs[0]).find(str(Digest.of_bytes(b"x"))) is None


def test_a_deep_or_damaged_model_costs_the_distance_alone(runs: tuple[RunDir, RunDir]) -> None:
    """Each of these ended in a traceback, or after minutes, while HDF5's library read it."""
    path = runs[0].models / "0-a.weights.h5"
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(2000):
            group = group.create_group("g")
    assert TensorStore(runs[0]).find(str(Digest.of_bytes(b"x"))) is None
    with h5py.File(path, "w") as file:
        file["layers/a"] = np.float32([1, 2])
    whole = path.read_bytes()
    for signature in (b"TREE", b"SNOD", b"HEAP"):
        path.write_bytes(whole.replace(signature, b"XXXX"))
        assert TensorStore(runs[0]).find(str(Digest.of_bytes(_bytes([1, 2])))) is None
    path.write_bytes(whole)
    assert TensorStore(runs[0]).find(str(Digest.of_bytes(_bytes([1, 2])))) == _bytes([1, 2])


def test_a_model_that_is_another_one_meanwhile(runs: tuple[RunDir, RunDir]) -> None:
    path = runs[0].models / "0-a.weights.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.float32([1, 2])
    store = TensorStore(runs[0])
    assert store.find(str(Digest.of_bytes(b"x"))) is None
    path.write_bytes(path.read_bytes().replace(_bytes([1, 2]), _bytes([1, 3])))
    assert store.find(str(Digest.of_bytes(_bytes([1, 2])))) is None
