"""What is made of what NVML reports; a machine without a GPU is told why in test_bad_input.py."""

import pytest

from samebits.errors import SettingError
from samebits.gpu import MINIMUM_DRIVER, Gpu, GpuReport
from samebits.recipe import Device

_H200 = Gpu(name="NVIDIA H200", compute_capability="9.0", memory=150_754_820_096)
_L4 = Gpu(name="NVIDIA L4", compute_capability="8.9", memory=24_152_899_584)


@pytest.mark.parametrize("driver", [MINIMUM_DRIVER, "525.60.14", "525.147.05", "535.54.03", "580.65", "1000.0"])
def test_a_driver_that_will_do(driver: str) -> None:
    GpuReport(gpus=(_H200,), driver=driver).check_driver()


@pytest.mark.parametrize("driver", ["525.60.12", "525.9.99", "470.256.02", "99.9", "525", None, ""])
def test_a_driver_that_is_too_old(driver: str | None) -> None:
    with pytest.raises(SettingError) as caught:
        GpuReport(gpus=(_H200,), driver=driver).check_driver()
    assert str(caught.value) == (
        f"NVIDIA's driver is {driver}, and CUDA 12.5 needs 525.60.13 or later; upgrade the driver"
    )


@pytest.mark.parametrize("count", [1, 2])
def test_device(count: int) -> None:
    report = GpuReport(gpus=(_H200, _L4), driver="580.65.06", cuda_driver="13.0")
    assert report.device(count) == Device(kind="gpu", model="NVIDIA H200", compute_capability="9.0", count=count)


def test_as_the_record_holds_it() -> None:
    report = GpuReport(gpus=(_L4,), driver="580.65.06", cuda_driver="13.0")
    assert report.to_dict() == {
        "gpus": [{"name": "NVIDIA L4", "compute_capability": "8.9", "memory": 24_152_899_584}],
        "driver": "580.65.06",
        "cuda_driver": "13.0",
        "reason": None,
    }
    assert GpuReport(reason="none").to_dict() == {"gpus": [], "driver": None, "cuda_driver": None, "reason": "none"}
