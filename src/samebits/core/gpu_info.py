"""What NVIDIA GPUs can be seen, through NVML, and what only the CUDA driver tells of them."""

import ctypes
from dataclasses import asdict, dataclass
from typing import Any

from samebits.core.errors import SettingError
from samebits.core.recipe import Device

MINIMUM_DRIVER = "525.60.13"
"""The oldest Linux driver that runs CUDA 12 programs (CUDA's release notes, "minor version compatibility")."""

_MULTIPROCESSOR_COUNT = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT of cuda.h


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU: `memory` in bytes, `compute_capability` as "major.minor".

    `multiprocessors` is their number as CUDA programs see it, which cuBLAS makes its bits depend on (its documentation,
    "Results Reproducibility"); None where the CUDA driver was not asked or cannot tell.
    """

    name: str
    compute_capability: str
    memory: int
    multiprocessors: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuReport:
    """All GPUs and the driver, or the reason why there are none."""

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda_driver: str | None = None
    reason: str | None = None

    def device(self, count: int) -> Device:
        """The device class of the first `count` GPUs; raises SettingError where it would not be one, or of fewer."""
        if count > len(self.gpus):
            raise SettingError(f"the run asks for {count} GPUs, and only {len(self.gpus)} can be seen; ask for fewer")
        kinds = dict.fromkeys(f"{gpu.name} ({gpu.compute_capability})" for gpu in self.gpus[:count])
        if len(kinds) > 1:
            raise SettingError(
                f"the run's {count} GPUs are of several models ({', '.join(kinds)}), and a recipe names one;"
                " ask for fewer, or show it those of one model only"
            )
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


def read_gpus(*, multiprocessors: bool = False) -> GpuReport:
    """Ask NVML; never raises where there is no GPU, no driver or no library.

    For the multiprocessors the CUDA driver is started in this process, which must not be forked afterwards: only a run
    that trains on a GPU, and so has started it anyway, should ask for them.
    """
    try:
        import pynvml
    except ImportError:
        return GpuReport(reason="the package nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuReport(reason=f"NVML: {error}")
    try:
        return _report(pynvml, _cuda() if multiprocessors else None)
    except pynvml.NVMLError as error:
        return GpuReport(reason=f"NVML: {error}")
    finally:
        pynvml.nvmlShutdown()


def _report(nvml: Any, cuda: Any) -> GpuReport:
    """`cuda` is the CUDA driver's library, started, or None where it is not to be asked."""
    version = nvml.nvmlSystemGetCudaDriverVersion_v2()
    gpus = tuple(_gpu(nvml, cuda, index) for index in range(nvml.nvmlDeviceGetCount()))
    return GpuReport(
        gpus=gpus,
        driver=_text(nvml.nvmlSystemGetDriverVersion()),
        cuda_driver=f"{version // 1000}.{version % 1000 // 10}",
        reason=None if gpus else "NVML sees no GPU",
    )


def _gpu(nvml: Any, cuda: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        compute_capability=f"{major}.{minor}",
        memory=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        multiprocessors=None if cuda is None else _multiprocessors(cuda, nvml.nvmlDeviceGetPciInfo(handle)),
    )


def _cuda() -> Any:
    """The CUDA driver's library, started; None where there is none or it does not start."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
        return None if library.cuInit(0) else library
    except (OSError, AttributeError):
        return None


def _multiprocessors(cuda: Any, pci: Any) -> int | None:
    """Those of the GPU at a PCI address: CUDA's order is not NVML's, and it may hide some.

    Of a GPU that is split (MIG), CUDA tells the part's that it shows; NVML knows the whole.
    """
    device, number = ctypes.c_int(), ctypes.c_int()
    place = f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0".encode()
    if cuda.cuDeviceGetByPCIBusId(ctypes.byref(device), place):
        return None
    if cuda.cuDeviceGetAttribute(ctypes.byref(number), _MULTIPROCESSOR_COUNT, device):
        return None
    return number.value


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _text(value: str | bytes) -> str:
    """Older bindings return bytes."""
    return value.decode() if isinstance(value, bytes) else value
