"""GPU reports made from NVML and the CUDA driver. test_bad_input.py covers machines without a GPU."""

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from samebits.core.errors import SettingError
from samebits.core.gpu_info import MINIMUM_DRIVER, Gpu, GpuReport, read_gpus
from samebits.core.jsonio import Fields
from samebits.core.recipe import Device
from support.nvml import played_nvml

_H200 = Gpu(name="NVIDIA H200", compute_capability="9.0", memory=150_754_820_096)
_H100 = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", memory=81559 << 20, multiprocessors=132)
_L4 = Gpu(name="NVIDIA L4", compute_capability="8.9", memory=24_152_899_584)


@pytest.mark.parametrize("driver", [MINIMUM_DRIVER, "525.60.14", "525.147.05", "535.54.03", "580.65", "1000.0"])
def test_a_driver_that_is_new_enough(driver: str) -> None:
    GpuReport(gpus=(_L4,), driver=driver).check_driver()


@pytest.mark.parametrize(("driver", "enough"), [("535.54.03", False), ("555.42.01", False), ("555.42.02", True)])
def test_a_driver_that_compiles_needs_the_minor_version(driver: str, *, enough: bool) -> None:
    """TensorFlow's kernels are PTX for 9.0 and later, of the version 8.5 that came with CUDA 12.5."""
    report = GpuReport(gpus=(_L4, _H200), driver=driver)
    if enough:
        report.check_driver()
        return
    with pytest.raises(SettingError) as caught:
        report.check_driver()
    assert str(caught.value) == (
        f"NVIDIA's driver is {driver}; it must compile TensorFlow's kernels for NVIDIA H200 (9.0), which takes"
        " 555.42.02 or later for CUDA 12.5; upgrade the driver"
    )


@pytest.mark.parametrize(
    ("capability", "known"),
    [("3.5", False), ("5.2", False), ("6.0", True), ("7.5", True), ("8.9", True), ("9.0", True), ("12.0", True)],
)
def test_an_architecture_without_code(capability: str, *, known: bool) -> None:
    report = GpuReport(gpus=(replace(_L4, compute_capability=capability),), driver="580.65.06")
    if known:
        report.check_architecture()
        return
    with pytest.raises(SettingError) as caught:
        report.check_architecture()
    assert str(caught.value) == (
        f"NVIDIA L4 has compute capability {capability}, and the locked TensorFlow holds code for 6.0 and later; use"
        " another GPU, or drop --gpus"
    )


@pytest.mark.parametrize("driver", ["525.60.12", "525.9.99", "470.256.02", "99.9", "525", None, ""])
def test_a_driver_that_is_too_old(driver: str | None) -> None:
    with pytest.raises(SettingError) as caught:
        GpuReport(gpus=(_H200,), driver=driver).check_driver()
    assert str(caught.value) == (
        f"NVIDIA's driver is {driver}, and CUDA 12.5 needs 525.60.13 or later; upgrade the driver"
    )


@pytest.mark.parametrize("count", [1, 2])
def test_device(count: int) -> None:
    report = GpuReport(gpus=(_H200, _H200, _L4), driver="580.65.06", cuda_driver="13.0")
    assert report.device(count) == Device(kind="gpu", model="NVIDIA H200", compute_capability="9.0", count=count)


def test_too_few_gpus() -> None:
    with pytest.raises(SettingError) as caught:
        GpuReport(gpus=(_H200,)).device(3)
    assert str(caught.value) == "the run needs 3 GPUs, but only 1 can be seen; ask for fewer"


def test_gpus_of_several_models() -> None:
    with pytest.raises(SettingError) as caught:
        GpuReport(gpus=(_H200, _H200, _L4)).device(3)
    assert str(caught.value) == (
        "the run's 3 GPUs are of several models (NVIDIA H200 (9.0), NVIDIA L4 (8.9)), and a recipe names one; ask for"
        " fewer, or show it those of one model only"
    )


_DEVICE, _PLACE = ctypes.POINTER(ctypes.c_int), ctypes.c_char_p


class _Driver:
    """A simulated CUDA driver with real C functions from ctypes; `shown` are its GPUs in CUDA's order."""

    def __init__(self, shown: Sequence[tuple[bytes, int]], *, starts: bool = True) -> None:
        self._shown = list(shown)
        self.started = 0
        self.cuInit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint)(lambda _flags: self._start(status=not starts))
        self.cuDeviceGetByPCIBusId = ctypes.CFUNCTYPE(ctypes.c_int, _DEVICE, _PLACE)(self._find)
        self.cuDeviceGetAttribute = ctypes.CFUNCTYPE(ctypes.c_int, _DEVICE, ctypes.c_int, ctypes.c_int)(self._tell)

    def _start(self, *, status: bool) -> int:
        self.started += 1
        return 100 if status else 0

    def _find(self, device: Any, place: bytes) -> int:
        places = [item[0] for item in self._shown]
        if place not in places:
            return 101
        device[0] = places.index(place)
        return 0

    def _tell(self, number: Any, attribute: int, device: int) -> int:
        if attribute != 16:
            return 1
        number[0] = self._shown[device][1]
        return 0


def _nvml(*gpus: Gpu) -> SimpleNamespace:
    """Simulated NVML bindings with these GPUs, on buses 0x0f, 0x10 and so on."""
    return SimpleNamespace(
        NVMLError=OSError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetCudaDriverVersion_v2=lambda: 12050,
        nvmlSystemGetDriverVersion=lambda: b"580.65.06",
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetCudaComputeCapability=lambda index: map(int, gpus[index].compute_capability.split(".")),
        nvmlDeviceGetName=lambda index: gpus[index].name,
        nvmlDeviceGetMemoryInfo=lambda index: SimpleNamespace(total=gpus[index].memory),
        nvmlDeviceGetPciInfo=lambda index: SimpleNamespace(domain=0, bus=0x0F + index, device=0),
        nvmlDeviceGetMigMode=_no_slices,
    )


def _no_slices(_index: int) -> list[int]:
    raise OSError("Not Supported")


def _read(monkeypatch: pytest.MonkeyPatch, driver: _Driver | None, *, asked: bool = True) -> list[int | None]:
    """The multiprocessors of an H200 and an L4 in the report."""
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(_H200, _L4))

    def load(name: str) -> _Driver:
        assert name == "libcuda.so.1"
        if driver is None:
            raise OSError("libcuda.so.1: cannot open shared object file")
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)
    report = read_gpus(multiprocessors=asked)
    assert [gpu.name for gpu in report.gpus] == ["NVIDIA H200", "NVIDIA L4"]
    assert (report.driver, report.cuda_driver) == ("580.65.06", "12.5")
    return [gpu.multiprocessors for gpu in report.gpus]


def test_multiprocessors_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    h200, l4 = (b"0000:0f:00.0", 132), (b"0000:10:00.0", 58)
    assert _read(monkeypatch, _Driver([h200, l4])) == [132, 58]
    assert _read(monkeypatch, _Driver([l4, h200])) == [132, 58]


def test_unknown_multiprocessors(monkeypatch: pytest.MonkeyPatch) -> None:
    only = [(b"0000:10:00.0", 58)]
    assert _read(monkeypatch, _Driver(only)) == [None, 58]  # the other is hidden by CUDA_VISIBLE_DEVICES
    assert _read(monkeypatch, _Driver(only, starts=False)) == [None, None]
    assert _read(monkeypatch, None) == [None, None]


def test_the_cuda_driver_starts_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = _Driver([(b"0000:0f:00.0", 132)])
    assert _read(monkeypatch, driver, asked=False) == [None, None]
    assert driver.started == 0
    _read(monkeypatch, driver)
    assert driver.started == 1


def _played(monkeypatch: pytest.MonkeyPatch, name: str) -> GpuReport:
    """What is read of a machine with the values of that file, of CUDA's answer, too."""
    answers = played_nvml(name)
    monkeypatch.setitem(sys.modules, "pynvml", answers.module)
    driver = _Driver([(place, number) for place, number in answers.multiprocessors])
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: driver)
    return read_gpus(multiprocessors=True)


def test_the_values_of_an_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    report = _played(monkeypatch, "h100")
    assert report == GpuReport(gpus=(_H100,), driver="580.159.04", cuda_driver="13.0")
    report.check_driver()
    report.check_architecture()
    device = report.device(1)
    assert device == Device(
        kind="gpu", model="NVIDIA H100 80GB HBM3", compute_capability="9.0", count=1, multiprocessors=132
    )
    report.check_recipe(device)
    assert str(report.gpus[0]) == "NVIDIA H100 80GB HBM3, 9.0, 132 multiprocessors"


def test_the_recipe_of_a_run_that_sees_another_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    report = _played(monkeypatch, "h100")
    device = report.device(1)
    for changed in ({"multiprocessors": 114}, {"model": "NVIDIA H200"}, {"mig": "1g.10gb"}):
        with pytest.raises(SettingError, match=r"^the recipe names NVIDIA H.*, and this process sees NVIDIA H100 80GB"):
            report.check_recipe(replace(device, **changed))
    # A recipe of version 1.6 has no such number.
    report.check_recipe(replace(device, multiprocessors=None))
    GpuReport(reason="NVML: no answer").check_recipe(device)


def test_slices_of_an_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    report = _played(monkeypatch, "h100-mig")
    assert [(gpu.mig, gpu.multiprocessors, gpu.memory >> 20) for gpu in report.gpus] == [
        ("1g.10gb", 16, 9984),
        ("1g.10gb", 16, 9984),
    ]
    assert report.device(1).mig == "1g.10gb"
    with pytest.raises(SettingError, match=r"^CUDA uses one slice of a GPU"):
        report.device(2)
    other = replace(report.gpus[1], mig="3g.40gb", multiprocessors=60)
    with pytest.raises(SettingError, match=r"^different slices of GPUs can be seen \(1g\.10gb, 3g\.40gb\), and CUDA"):
        replace(report, gpus=(report.gpus[0], other)).device(1)
    with pytest.raises(SettingError, match=r"^different slices of GPUs can be seen"):
        replace(report, gpus=(report.gpus[0], _H100)).device(1)


def test_gpus_with_different_numbers_of_multiprocessors() -> None:
    report = GpuReport(gpus=(_H100, replace(_H100, multiprocessors=114)))
    assert report.device(1).multiprocessors == 132
    with pytest.raises(SettingError, match=r"different numbers of multiprocessors \(114, 132\)"):
        report.device(2)


def test_the_form_of_a_slice_in_the_record() -> None:
    gpu = replace(_H100, mig="1g.10gb", multiprocessors=16)
    assert Gpu.from_fields(Fields(gpu.to_dict())) == gpu
    assert "mig" not in _H100.to_dict()


def test_the_form_in_the_record() -> None:
    report = GpuReport(gpus=(_L4,), driver="580.65.06", cuda_driver="13.0")
    assert report.to_dict() == {
        "gpus": [{"name": "NVIDIA L4", "compute_capability": "8.9", "memory": 24_152_899_584, "multiprocessors": None}],
        "driver": "580.65.06",
        "cuda_driver": "13.0",
        "reason": None,
    }
    assert GpuReport(reason="none").to_dict() == {"gpus": [], "driver": None, "cuda_driver": None, "reason": "none"}
