"""What NVIDIA GPUs can be seen, through NVML."""

from dataclasses import asdict, dataclass
from typing import Any

from samebits.errors import SettingError
from samebits.recipe import Device

MINIMUM_DRIVER = "525.60.13"
"""The oldest Linux driver that runs CUDA 12 programs (CUDA's release notes, "minor version compatibility")."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU: `memory` in bytes, `compute_capability` as "major.minor"."""

    name: str
    compute_capability: str
    memory: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuReport:
    """All GPUs and the driver, or the reason why there are none."""

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda_driver: str | None = None
    reason: str | None = None

    def device(self, count: int) -> Device:
        """The device class of the first `count` GPUs."""
        first = self.gpus[0]
        return Device(kind="gpu", model=first.name, compute_capability=first.compute_capability, count=count)

    def check_driver(self) -> None:
        """Raise SettingError where the driver is older than the image's CUDA needs."""
        if _numbers(self.driver or "") < _numbers(MINIMUM_DRIVER):
            raise SettingError(
                f"NVIDIA's driver is {self.driver}, and CUDA 12.5 needs {MINIMUM_DRIVER} or later; upgrade the driver"
            )

    def to_dict(self) -> dict[str, object]:
        """As the record holds it."""
        return asdict(self) | {"gpus": [asdict(gpu) for gpu in self.gpus]}


def read_gpus() -> GpuReport:
    """Ask NVML; never raises where there is no GPU, no driver or no library."""
    try:
        import pynvml
    except ImportError:
        return GpuReport(reason="the package nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuReport(reason=f"NVML: {error}")
    try:
        return _report(pynvml)
    except pynvml.NVMLError as error:
        return GpuReport(reason=f"NVML: {error}")
    finally:
        pynvml.nvmlShutdown()


def _report(nvml: Any) -> GpuReport:
    cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()
    gpus = tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
    return GpuReport(
        gpus=gpus,
        driver=_text(nvml.nvmlSystemGetDriverVersion()),
        cuda_driver=f"{cuda // 1000}.{cuda % 1000 // 10}",
        reason=None if gpus else "NVML sees no GPU",
    )


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        compute_capability=f"{major}.{minor}",
        memory=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _text(value: str | bytes) -> str:
    """Older bindings return bytes."""
    return value.decode() if isinstance(value, bytes) else value
