"""The visible NVIDIA GPUs, read through NVML, with details that only the CUDA driver knows."""

import ctypes
from dataclasses import asdict, dataclass
from typing import Any

from samebits.core.errors import SettingError
from samebits.core.jsonio import Fields
from samebits.core.recipe import Device

MINIMUM_DRIVER = "525.60.13"
"""The oldest Linux driver that runs CUDA 12 programs (CUDA's release notes, "minor version compatibility")."""

_MULTIPROCESSOR_COUNT = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT of cuda.h


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU: `memory` in bytes, `compute_capability` as "major.minor".

    `multiprocessors` is the number that CUDA programs see. The bits that cuBLAS computes depend on it (cuBLAS
    documentation, "Results Reproducibility"). It is None if the CUDA driver was not asked or does not know.
    """

    name: str
    compute_capability: str
    memory: int
    multiprocessors: int | None = None

    @classmethod
    def from_fields(cls, fields: Fields) -> "Gpu":
        """Read one of what `GpuReport.to_dict` wrote."""
        return cls(
            name=fields.get("name", str),
            compute_capability=fields.get("compute_capability", str),
            memory=fields.get("memory", int),
            multiprocessors=fields.optional("multiprocessors", int),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuReport:
    """All visible GPUs and the driver, or the reason why there are none."""

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda_driver: str | None = None
    reason: str | None = None

    def device(self, count: int) -> Device:
        """The device of a recipe: the first `count` GPUs. Raises SettingError if there are fewer, or several models."""
        if count > len(self.gpus):
            raise SettingError(f"the run needs {count} GPUs, but only {len(self.gpus)} can be seen; ask for fewer")
        kinds = dict.fromkeys(f"{gpu.name} ({gpu.compute_capability})" for gpu in self.gpus[:count])
        if len(kinds) > 1:
            raise SettingError(
                f"the run's {count} GPUs are of several models ({', '.join(kinds)}), and a recipe names one;"
                " ask for fewer, or show it those of one model only"
            )
        # All of them are alike from here on.
        first = self.gpus[0]
        return Device(kind="gpu", model=first.name, compute_capability=first.compute_capability, count=count)

    def check_driver(self) -> None:
        """Raise SettingError if the driver is too old for the CUDA version of the image."""
        if _version_numbers(self.driver or "") < _version_numbers(MINIMUM_DRIVER):
            raise SettingError(
                f"NVIDIA's driver is {self.driver}, and CUDA 12.5 needs {MINIMUM_DRIVER} or later; upgrade the driver"
            )

    def to_dict(self) -> dict[str, object]:
        """As the record holds it."""
        return asdict(self) | {"gpus": [asdict(gpu) for gpu in self.gpus]}

    @classmethod
    def from_fields(cls, fields: Fields) -> "GpuReport":
        """Read what `to_dict` wrote."""
        return cls(
            gpus=tuple(map(Gpu.from_fields, fields.objects("gpus"))),
            driver=fields.optional("driver", str),
            cuda_driver=fields.optional("cuda_driver", str),
            reason=fields.optional("reason", str),
        )


def read_gpus(*, multiprocessors: bool = False) -> GpuReport:
    """Query NVML; a missing GPU, driver or library becomes the report's `reason`, not an error.

    `multiprocessors` starts the CUDA driver in this process, which must not fork afterwards. Ask for them only in a
    run that trains on a GPU, because it starts the driver anyway.
    """
    try:
        # Imported here, because the package may be missing where no GPU is used.
        import pynvml
    except ImportError:
        return GpuReport(reason="the package nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuReport(reason=f"NVML: {error}")
    try:
        return _read_report(pynvml, _start_cuda() if multiprocessors else None)
    except pynvml.NVMLError as error:
        return GpuReport(reason=f"NVML: {error}")
    finally:
        pynvml.nvmlShutdown()


def _read_report(nvml: Any, cuda: Any) -> GpuReport:
    """All GPUs; `cuda` is the initialized CUDA driver library, or None if it must not be used."""
    version = nvml.nvmlSystemGetCudaDriverVersion_v2()
    gpus = tuple(_read_gpu(nvml, cuda, index) for index in range(nvml.nvmlDeviceGetCount()))
    return GpuReport(
        gpus=gpus,
        driver=_as_text(nvml.nvmlSystemGetDriverVersion()),
        # NVML encodes 12.5 as 12050.
        cuda_driver=f"{version // 1000}.{version % 1000 // 10}",
        reason=None if gpus else "NVML sees no GPU",
    )


def _read_gpu(nvml: Any, cuda: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        name=_as_text(nvml.nvmlDeviceGetName(handle)),
        compute_capability=f"{major}.{minor}",
        memory=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        multiprocessors=None if cuda is None else _multiprocessors(cuda, nvml.nvmlDeviceGetPciInfo(handle)),
    )


def _start_cuda() -> Any:
    """The CUDA driver library, initialized; None if it is missing or does not start."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
        return None if library.cuInit(0) else library
    except (OSError, AttributeError):
        return None


def _multiprocessors(cuda: Any, pci: Any) -> int | None:
    """The multiprocessors of the GPU at a PCI address, because CUDA numbers GPUs differently and may hide some.

    Of a GPU that MIG splits, CUDA counts the visible part only; NVML knows the whole.
    """
    device, number = ctypes.c_int(), ctypes.c_int()
    address = f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0".encode()
    # The CUDA functions return 0 on success.
    if cuda.cuDeviceGetByPCIBusId(ctypes.byref(device), address):
        return None
    if cuda.cuDeviceGetAttribute(ctypes.byref(number), _MULTIPROCESSOR_COUNT, device):
        return None
    return number.value


def _version_numbers(version: str) -> tuple[int, ...]:
    # Numbers, because text would sort 9 after 10.
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _as_text(value: str | bytes) -> str:
    """Decode `value`: older versions of pynvml return bytes."""
    return value.decode() if isinstance(value, bytes) else value
