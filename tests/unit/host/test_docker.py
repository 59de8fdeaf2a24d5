"""The container that a request becomes, without an engine: what it may reach, and as whom it runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from samebits.host.container_request import ContainerRequest, creation_options

_REQUEST = ContainerRequest(
    image="sha256:0",
    command=("--run", "/runs/1"),
    environment={"TZ": "UTC", "XLA_FLAGS": None},
    mounts=((Path("/here/run"), "/runs/1", False), (Path("/here/data"), "/data", True)),
    user="1000:1001",
)


def test_a_container_is_hardened() -> None:
    made = creation_options(_REQUEST)
    hardened = {
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "init": True,
        "auto_remove": True,
        "stdin_open": True,
        "user": "1000:1001",
        "device_requests": [],
    }
    assert {name: made[name] for name in hardened} == hardened
    assert made["use_config_proxy"] is False
    assert [(limit["Name"], limit["Soft"], limit["Hard"]) for limit in made["ulimits"]] == [("core", 0, 0)]
    assert "privileged" not in made


def test_process_1_watches_where_the_runner_can() -> None:
    assert creation_options(replace(_REQUEST, watches=True))["init"] is False


def test_mounts_are_made_as_asked_for() -> None:
    mounts = creation_options(_REQUEST)["mounts"]
    assert [(item["Source"], item["Target"], item["ReadOnly"]) for item in mounts] == [
        ("/here/run", "/runs/1", False),
        ("/here/data", "/data", True),
    ]


@pytest.mark.parametrize(("gpus", "count"), [("all", -1), ("2", 2)])
def test_gpus(gpus: str, count: int) -> None:
    request = ContainerRequest(image="i", command=(), environment={}, mounts=(), user="1:1", gpus=gpus)
    (device,) = creation_options(request)["device_requests"]
    assert device["count"] == count
