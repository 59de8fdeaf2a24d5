"""The visible NVIDIA GPUs, read through NVML, with details that only the CUDA driver knows."""

import ctypes
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from samebits.core.errors import SettingError
from samebits.core.jsonio import Fields
from samebits.core.recipe import Device

MINIMUM_DRIVER = "525.60.13"
"""The oldest Linux driver that runs CUDA 12 programs (CUDA's release notes, "minor version compatibility")."""

COMPILING_DRIVER = "555.42.02"
"""The Linux driver that came with CUDA 12.5, for which the locked TensorFlow was built. An older one runs its programs,
but cannot compile their PTX (CUDA's release notes, "CUDA Toolkit and Corresponding Driver Versions")."""

_COMPILED_FOR = (6, 7, 8)
_COMPILED_FROM = (9, 0)
"""TensorFlow's wheels hold machine code for GPUs of these major versions, and PTX that the driver compiles for this one
and every later one (`cuda_compute_capabilities` of `tf.sysconfig.get_build_info()`: 6.0, 7.0, 8.0, 8.9, PTX of 9.0)."""

_MULTIPROCESSOR_COUNT = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT of cuda.h


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU: `memory` in bytes, `compute_capability` as "major.minor".

    `multiprocessors` is the number that CUDA programs see. The bits that cuBLAS computes depend on it (cuBLAS
    documentation, "Results Reproducibility"). It is None if the CUDA driver was not asked or does not know. `mig` is
    the profile of a slice of a GPU, such as `1g.10gb`; it came with version 1.7 of the record.
    """

    name: str
    compute_capability: str
    memory: int
    multiprocessors: int | None = None
    mig: str | None = None

    @property
    def has_code(self) -> bool:
        """Whether TensorFlow's wheels hold code for it."""
        return self._version[:1] in {(major,) for major in _COMPILED_FOR} or self.compiles_ptx

    @property
    def compiles_ptx(self) -> bool:
        """Whether the driver compiles TensorFlow's kernels for it, so that their bits may depend on the driver."""
        return self._version >= _COMPILED_FROM

    @property
    def _version(self) -> tuple[int, ...]:
        return _version_numbers(self.compute_capability)

    def __str__(self) -> str:
        known = Device(model=self.name, compute_capability=self.compute_capability)
        return describe_device(replace(known, multiprocessors=self.multiprocessors, mig=self.mig))

    @classmethod
    def from_fields(cls, fields: Fields) -> "Gpu":
        """Read one of what `GpuReport.to_dict` wrote."""
        return cls(
            name=fields.get("name", str),
            compute_capability=fields.get("compute_capability", str),
            memory=fields.get("memory", int),
            multiprocessors=fields.optional("multiprocessors", int),
            mig=fields.optional("mig", str),
        )

    def to_dict(self) -> dict[str, object]:
        """As the record holds it."""
        values = asdict(self)
        return values if self.mig is not None else {name: value for name, value in values.items() if name != "mig"}


def describe_device(device: Device) -> str:
    """A GPU for a table or a message: what its bits depend on, as far as it is known."""
    number = "" if device.multiprocessors is None else f", {device.multiprocessors} multiprocessors"
    return f"{device.model}, {device.compute_capability}{number}" + (f", slice {device.mig}" if device.mig else "")


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
        self._check_slices(count)
        if len(numbers := {gpu.multiprocessors for gpu in self.gpus[:count]}) > 1:
            raise SettingError(
                f"the run's {count} GPUs have different numbers of multiprocessors"
                f" ({', '.join(sorted(map(str, numbers)))}), and a recipe names one; ask for fewer"
            )
        # All of them are alike from here on.
        first = self.gpus[0]
        return Device(
            kind="gpu",
            model=first.name,
            compute_capability=first.compute_capability,
            count=count,
            multiprocessors=first.multiprocessors,
            mig=first.mig,
        )

    def _check_slices(self, count: int) -> None:
        """Raise SettingError where it is open which slice CUDA would take."""
        # CUDA uses one slice in a process, and chooses it by an order that NVML does not tell.
        slices = dict.fromkeys(str(gpu.mig) for gpu in self.gpus if gpu.mig is not None)
        if slices and count > 1:
            raise SettingError("CUDA uses one slice of a GPU (MIG) in a process; ask for one GPU")
        if slices and len({gpu.mig for gpu in self.gpus}) > 1:
            raise SettingError(
                f"different slices of GPUs can be seen ({', '.join(slices)}), and CUDA may take any; show it those of"
                " one profile only, with CUDA_VISIBLE_DEVICES or NVIDIA_VISIBLE_DEVICES"
            )

    def check_driver(self) -> None:
        """Raise SettingError if the driver is too old for the CUDA version of the image, or for this GPU's code.

        A driver of CUDA's major version runs its programs. TensorFlow's PTX needs the driver of CUDA's minor version,
        or a later one.
        """
        driver = _version_numbers(self.driver or "")
        if driver < _version_numbers(MINIMUM_DRIVER):
            raise SettingError(
                f"NVIDIA's driver is {self.driver}, and CUDA 12.5 needs {MINIMUM_DRIVER} or later; upgrade the driver"
            )
        compiles = next((gpu for gpu in self.gpus if gpu.compiles_ptx), None)
        if compiles is not None and driver < _version_numbers(COMPILING_DRIVER):
            raise SettingError(
                f"NVIDIA's driver is {self.driver}; it must compile TensorFlow's kernels for {compiles.name}"
                f" ({compiles.compute_capability}), which takes {COMPILING_DRIVER} or later for CUDA 12.5;"
                " upgrade the driver"
            )

    def check_architecture(self) -> None:
        """Raise SettingError for a GPU that TensorFlow's wheels hold no code for."""
        for gpu in self.gpus:
            if not gpu.has_code:
                raise SettingError(
                    f"{gpu.name} has compute capability {gpu.compute_capability}, and the locked TensorFlow holds code"
                    " for 6.0 and later; use another GPU, or drop --gpus"
                )

    def check_recipe(self, device: Device) -> None:
        """Raise SettingError where the GPUs are not those of a recipe."""
        # TensorFlow has found a GPU; where NVML cannot be asked, nothing more is known.
        if device.kind != "gpu" or self.reason is not None:
            return
        here = self.device(device.count or 1)
        # A recipe from before version 1.7 has no such number.
        found = here if device.multiprocessors is not None else replace(here, multiprocessors=None)
        if found != device:
            raise SettingError(f"the recipe names {describe_device(device)}, and this process sees {self.gpus[0]}")

    def to_dict(self) -> dict[str, object]:
        """As the record holds it."""
        return asdict(self) | {"gpus": [gpu.to_dict() for gpu in self.gpus]}

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
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    gpus = tuple(gpu for handle in handles for gpu in _read_gpu(nvml, cuda, handle))
    return GpuReport(
        gpus=gpus,
        driver=_as_text(nvml.nvmlSystemGetDriverVersion()),
        # NVML encodes 12.5 as 12050.
        cuda_driver=f"{version // 1000}.{version % 1000 // 10}",
        reason=None if gpus else "NVML sees no GPU",
    )


def _read_gpu(nvml: Any, cuda: Any, handle: Any) -> Iterator[Gpu]:
    """A GPU, or the visible slices of one that is split: CUDA sees those only."""
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    whole = Gpu(
        name=_as_text(nvml.nvmlDeviceGetName(handle)),
        compute_capability=f"{major}.{minor}",
        memory=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
    )
    if _is_split(nvml, handle):
        yield from _slices(nvml, handle, whole)
    else:
        number = None if cuda is None else _multiprocessors(cuda, nvml.nvmlDeviceGetPciInfo(handle))
        yield replace(whole, multiprocessors=number)


def _is_split(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:  # most GPUs cannot be split
        return False


def _slices(nvml: Any, handle: Any, whole: Gpu) -> Iterator[Gpu]:
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:  # not every place holds a slice
            continue
        facts = nvml.nvmlDeviceGetAttributes_v2(part)
        # NVIDIA's name of a profile: compute slices of the GPU, and memory in GB, such as 1g.10gb or 1c.3g.40gb.
        shared = facts.computeInstanceSliceCount != facts.gpuInstanceSliceCount
        compute = f"{facts.computeInstanceSliceCount}c." if shared else ""
        yield replace(
            whole,
            memory=int(facts.memorySizeMB) << 20,
            multiprocessors=int(facts.multiprocessorCount),
            mig=f"{compute}{facts.gpuInstanceSliceCount}g.{-(-int(facts.memorySizeMB) // 1024)}gb",
        )


def _start_cuda() -> Any:
    """The CUDA driver library, initialized; None if it is missing or does not start."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
        return None if library.cuInit(0) else library
    except (OSError, AttributeError):
        return None


def _multiprocessors(cuda: Any, pci: Any) -> int | None:
    """The multiprocessors of the GPU at a PCI address, because CUDA numbers GPUs differently and may hide some."""
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
