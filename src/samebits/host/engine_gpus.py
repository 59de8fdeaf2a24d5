"""GPUs in containers: how an engine hands them over, and what its refusals mean."""

from collections.abc import Mapping
from typing import Any

_CDI = "nvidia.com/gpu="
_INSTALL = "install NVIDIA's container toolkit, then `nvidia-ctk runtime configure` and restart the engine"
_REFUSALS = (
    ("could not select device driver", f"the engine has no NVIDIA container toolkit; {_INSTALL}"),
    ("unknown or invalid runtime name: nvidia", f"the engine has no NVIDIA container toolkit; {_INSTALL}"),
    (
        "unresolvable cdi devices",
        "the engine's list of GPUs (CDI) lacks this one; run `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`",
    ),
    (
        "unsatisfied condition: cuda",
        "NVIDIA's driver is too old for the image's CUDA; upgrade the driver",
    ),
    ("driver not loaded", "NVIDIA's driver is not loaded; load or install it"),
    ("libnvidia-ml.so", "NVIDIA's driver is not installed where the engine runs; install it"),
    ("driver/library version mismatch", "NVIDIA's driver was upgraded while it was loaded; restart the machine"),
    ("nvidia-container-cli: device error", "the engine does not know that GPU; ask for one that `nvidia-smi -L` lists"),
)
"""Fragments of what Docker, containerd and `nvidia-container-cli` say, in lower case, with what happened and what to
do."""


_OF_NVIDIA = ("nvidia-c", "nvidia.com/gpu", "nvml")


def device_request(gpus: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """The request for GPUs, in the engine's terms; `info` is what the engine says of itself.

    Docker lists the devices of the Container Device Interface since version 28. Without such a list, its older way
    needs a part of NVIDIA's toolkit beside the engine.
    """
    devices = {str(item.get("ID")) for item in info.get("DiscoveredDevices") or () if item.get("Source") == "cdi"}
    wanted = ["all"] if gpus == "all" else [str(number) for number in range(int(gpus))]
    names = [f"{_CDI}{name}" for name in wanted]
    if devices.issuperset(names):
        return {"driver": "cdi", "device_ids": names}
    return {"count": -1 if gpus == "all" else int(gpus), "capabilities": [["gpu"]]}


def refusal(line: str) -> str | None:
    """What happened and what to do, for an engine's refusal that concerns GPUs; None for another one."""
    text = line.lower()
    known = next((meaning for fragment, meaning in _REFUSALS if fragment in text), None)
    if known is None and not any(word in text for word in _OF_NVIDIA):
        return None
    known = known or "install NVIDIA's driver and container toolkit"
    return f"the engine offers no GPU: {known}, or drop --gpus ({line})"
