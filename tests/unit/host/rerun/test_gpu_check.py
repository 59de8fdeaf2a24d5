"""Preflight's row on the GPU: the values that an H100 reports against runs of other GPUs."""

import ctypes
import sys
from dataclasses import replace
from typing import Any

import pytest

from samebits.core.gpu_info import Gpu, GpuReport, read_gpus
from samebits.core.recipe import Device
from samebits.core.record import Record
from samebits.host.rerun import hardware
from samebits.host.rerun.hardware import PreflightCheck
from support.nvml import played_nvml

_ALL = ("bitwise", "metrics", "documented")
_H100 = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", memory=81559 << 20, multiprocessors=132)
_DEVICE = GpuReport(gpus=(_H100,)).device(1)


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> GpuReport:
    """What this host sees; CUDA is not here, so its number comes from the file."""
    answers = played_nvml("h100")
    monkeypatch.setitem(sys.modules, "pynvml", answers.module)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: None)
    report = read_gpus()
    ((_, number),) = answers.multiprocessors
    return replace(report, gpus=(replace(report.gpus[0], multiprocessors=number),))


def _row(
    monkeypatch: pytest.MonkeyPatch, example: Record, here: GpuReport, device: Device, seen: GpuReport | None = None
) -> PreflightCheck:
    """The row for a run of that device, which observed `seen`."""
    monkeypatch.setattr(hardware, "read_gpus", lambda **_: here)
    system = example.environment.system
    assert system is not None
    system = replace(system, gpu=seen or GpuReport(gpus=(_H100,), driver="580.159.04"))
    record = replace(
        example,
        recipe=replace(example.recipe, device=device),
        environment=replace(example.environment, system=system),
    )
    (row,) = (row for row in hardware.hardware(record) if row.name == "gpu")
    return row


def test_the_same_gpu(monkeypatch: pytest.MonkeyPatch, example: Record, h100: GpuReport) -> None:
    row = _row(monkeypatch, example, h100, _DEVICE)
    assert (row.reason, row.blocks) == ("", ())
    assert row.wanted == row.found == "1 x NVIDIA H100 80GB HBM3, 9.0, 132 multiprocessors"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model": "NVIDIA H200"}, "another GPU model: neither cuDNN nor cuBLAS guarantees the same bits"),
        ({"compute_capability": "8.0"}, "another GPU model: neither cuDNN nor cuBLAS guarantees the same bits"),
        (
            {"multiprocessors": 114},
            "another number of multiprocessors: cuBLAS guarantees the same bits for one number only",
        ),
        ({"mig": "1g.10gb"}, "another slice of a GPU (MIG): it has other numbers of multiprocessors and caches"),
    ],
)
def test_another_gpu_is_not_comparable(
    monkeypatch: pytest.MonkeyPatch, example: Record, h100: GpuReport, changed: dict[str, Any], reason: str
) -> None:
    row = _row(monkeypatch, example, h100, replace(_DEVICE, **changed))
    assert (row.reason, row.blocks) == (reason, ("bitwise",))


def test_a_number_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, example: Record, h100: GpuReport) -> None:
    here = replace(h100, gpus=(replace(h100.gpus[0], multiprocessors=None),))
    row = _row(monkeypatch, example, here, _DEVICE)
    assert row.reason.startswith("the number of multiprocessors cannot be read here")
    assert row.blocks == ("bitwise",)


def test_a_recipe_of_version_1_6(monkeypatch: pytest.MonkeyPatch, example: Record, h100: GpuReport) -> None:
    """It has no number; what the run observed counts."""
    old = replace(_DEVICE, multiprocessors=None)
    assert _row(monkeypatch, example, h100, old).blocks == ()
    seen = GpuReport(gpus=(replace(_H100, multiprocessors=114),), driver="580.159.04")
    assert _row(monkeypatch, example, h100, old, seen).blocks == ("bitwise",)


def test_another_driver_is_named(monkeypatch: pytest.MonkeyPatch, example: Record, h100: GpuReport) -> None:
    seen = GpuReport(gpus=(_H100,), driver="570.26")
    row = _row(monkeypatch, example, h100, _DEVICE, seen)
    assert row.blocks == ()
    assert row.reason.startswith("driver 580.159.04 instead of 570.26: it compiles TensorFlow's kernels for this GPU")


@pytest.mark.parametrize(
    ("here", "reason"),
    [
        ({"driver": "535.54.03"}, "NVIDIA's driver is 535.54.03; it must compile"),
        ({"gpus": (replace(_H100, compute_capability="5.2"),)}, "NVIDIA H100 80GB HBM3 has compute capability 5.2"),
        ({"gpus": (), "reason": "NVML: Driver Not Loaded"}, "NVML: Driver Not Loaded"),
    ],
)
def test_a_host_that_cannot_train(
    monkeypatch: pytest.MonkeyPatch, example: Record, h100: GpuReport, here: dict[str, Any], reason: str
) -> None:
    row = _row(monkeypatch, example, replace(h100, **here), _DEVICE)
    assert row.reason.startswith(reason)
    assert row.blocks == _ALL


def test_different_slices(monkeypatch: pytest.MonkeyPatch, example: Record, h100: GpuReport) -> None:
    slices = tuple(replace(_H100, mig=name) for name in ("1g.10gb", "3g.40gb"))
    row = _row(monkeypatch, example, replace(h100, gpus=slices), replace(_DEVICE, mig="1g.10gb"))
    assert row.reason.startswith("different slices of GPUs can be seen")
    assert row.blocks == ("bitwise",)
