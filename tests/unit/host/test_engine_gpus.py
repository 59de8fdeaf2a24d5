"""How GPUs are asked for, and what an engine's refusals mean: texts of Docker, containerd and NVIDIA's toolkit."""

from typing import Any

import pytest
from docker.errors import APIError

from samebits.host.container_request import ContainerRequest, creation_options
from samebits.host.docker import _as_engine_error
from samebits.host.engine_gpus import device_request, refusal

_CDI = [{"Source": "cdi", "ID": f"nvidia.com/gpu={name}"} for name in ("0", "1", "all")]


@pytest.mark.parametrize(
    ("gpus", "info", "expected"),
    [
        ("all", {}, {"count": -1, "capabilities": [["gpu"]]}),
        ("2", {"DiscoveredDevices": None}, {"count": 2, "capabilities": [["gpu"]]}),
        ("all", {"DiscoveredDevices": _CDI}, {"driver": "cdi", "device_ids": ["nvidia.com/gpu=all"]}),
        ("2", {"DiscoveredDevices": _CDI}, {"driver": "cdi", "device_ids": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]}),
        # The list lacks one that is wanted, so the older way decides what is there.
        ("3", {"DiscoveredDevices": _CDI}, {"count": 3, "capabilities": [["gpu"]]}),
        ("1", {"DiscoveredDevices": [{"Source": "cdi", "ID": "other.com/gpu=0"}]}, {"count": 1}),
    ],
)
def test_the_way_that_the_engine_offers(gpus: str, info: dict[str, Any], expected: dict[str, Any]) -> None:
    assert expected.items() <= device_request(gpus, info).items()


def test_cdi_reaches_the_engine() -> None:
    request = ContainerRequest(image="i", command=(), environment={}, mounts=(), user="1:1", gpus="1")
    (device,) = creation_options(request, {"DiscoveredDevices": _CDI})["device_requests"]
    assert device == {"driver": "cdi", "device_ids": ["nvidia.com/gpu=0"]}


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        (
            'could not select device driver "" with capabilities: [[gpu]]',
            "the engine has no NVIDIA container toolkit; install NVIDIA's container toolkit, then",
        ),
        ("unknown or invalid runtime name: nvidia", "the engine has no NVIDIA container toolkit"),
        (
            "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all",
            "the engine's list of GPUs (CDI) lacks this one; run `nvidia-ctk cdi generate",
        ),
        (
            "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.5, please update your driver",
            "NVIDIA's driver is too old for the image's CUDA; upgrade the driver",
        ),
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded", "NVIDIA's driver is not loaded"),
        (
            "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open",
            "NVIDIA's driver is not installed where the engine runs",
        ),
        ("nvidia-container-cli: device error: 7: unknown device", "the engine does not know that GPU"),
        ("nvidia-container-cli: something new", "install NVIDIA's driver and container toolkit"),
    ],
)
def test_refusals(line: str, meaning: str) -> None:
    error = str(_as_engine_error(APIError("500", explanation=line)))
    assert error.startswith(f"the engine offers no GPU: {meaning}")
    assert error.endswith(f", or drop --gpus ({line})")


@pytest.mark.parametrize("line", ["no such image: nvidia/cuda", "unknown device: loop7", "read init-p: broken pipe"])
def test_what_concerns_no_gpu(line: str) -> None:
    assert refusal(line) is None
