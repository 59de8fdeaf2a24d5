"""NVML's answers of a machine, from `tests/data/nvml-NAME.json`, in the form in which `pynvml` gives them.

`h100` has the values that an H100 reports. `h100-mig` is the same GPU with two slices, as NVIDIA documents them.
"""

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from support.command import DATA


class NVMLError(Exception):
    """What the bindings raise."""


@dataclass(frozen=True, kw_only=True)
class PlayedNvml:
    """The bindings, and what CUDA answers: pairs of a PCI address and a number of multiprocessors."""

    module: SimpleNamespace
    multiprocessors: list[tuple[bytes, int]]


def played_nvml(name: str) -> PlayedNvml:
    """Bindings that answer with the values of that file."""
    facts = json.loads((DATA / f"nvml-{name}.json").read_text())
    gpus: list[dict[str, Any]] = facts["gpus"]

    def slice_of(gpu: dict[str, Any], index: int) -> dict[str, Any]:
        if index >= len(gpu["slices"]):
            raise NVMLError("Not Found")
        return dict(gpu["slices"][index])

    def mode(gpu: dict[str, Any]) -> list[int]:
        if gpu["mig_mode"] is None:
            raise NVMLError("Not Supported")
        return list(gpu["mig_mode"])

    module = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetCudaDriverVersion_v2=lambda: facts["cuda_driver_version"],
        nvmlSystemGetDriverVersion=lambda: facts["driver_version"],
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=lambda index: gpus[index],
        nvmlDeviceGetCudaComputeCapability=lambda gpu: tuple(gpu["compute_capability"]),
        nvmlDeviceGetName=lambda gpu: gpu["name"],
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(total=gpu["memory_total"]),
        nvmlDeviceGetPciInfo=lambda gpu: SimpleNamespace(**gpu["pci"]),
        nvmlDeviceGetMigMode=mode,
        nvmlDeviceGetMaxMigDeviceCount=lambda gpu: gpu["max_mig_devices"],
        nvmlDeviceGetMigDeviceHandleByIndex=slice_of,
        nvmlDeviceGetAttributes_v2=lambda item: SimpleNamespace(**item),
    )
    places = [(_address(gpu["pci"]), gpu["multiprocessors"]) for gpu in gpus]
    return PlayedNvml(module=module, multiprocessors=places)


def _address(pci: dict[str, int]) -> bytes:
    return f"{pci['domain']:04x}:{pci['bus']:02x}:{pci['device']:02x}.0".encode()
