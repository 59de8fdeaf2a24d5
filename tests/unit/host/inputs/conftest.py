"""Servers on the loopback interface that answer for real hosts, and an empty store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from samebits.host.inputs.store import InputStore
from support.hosts import Hosts, answering


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with answering(tmp_path_factory.mktemp("hosts"), "example.com", "mirror.example.org") as hosts:
        yield hosts


@pytest.fixture
def hosts(authority: Hosts, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """Answers nothing yet."""
    for values in (authority.files, authority.redirects, authority.cut, authority.asked):
        values.clear()
    for name, value in authority.environment.items():
        monkeypatch.setenv(name, value)
    return authority


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InputStore:
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    return InputStore()
