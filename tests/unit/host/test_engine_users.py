"""An engine that runs without root, or that maps users to others: the container's process is the caller."""

import pytest

from samebits.core.environment import EngineInfo
from samebits.core.jsonio import Fields
from samebits.host.engine_users import EngineUsers


@pytest.mark.parametrize(
    ("reported", "namespace", "options"),
    [
        (None, None, {}),
        ([], None, {}),
        (["name=seccomp,profile=builtin", "name=cgroupns"], None, {}),
        (["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"], "rootless", {"user": "0:0"}),
        (["name=userns", "name=apparmor"], "remapped", {"userns_mode": "host"}),
        # Only the name counts.
        (["name=seccomp,profile=name=rootless"], None, {}),
    ],
)
def test_users(reported: list[str] | None, namespace: str | None, options: dict[str, str]) -> None:
    users = EngineUsers.of(reported)
    assert (users.namespace, users.options) == (namespace, options)


@pytest.mark.parametrize("namespace", [None, "rootless"])
def test_the_record_names_it(namespace: str | None) -> None:
    info = EngineInfo(name="Docker", user_namespace=namespace)
    written = info.to_dict()
    assert ("user_namespace" in written) == (namespace is not None)
    assert EngineInfo.from_fields(Fields(written)) == info
