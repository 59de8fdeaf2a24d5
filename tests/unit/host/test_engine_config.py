"""Nothing falls back to less isolation where an engine is configured, however broken the client's configuration is."""

import inspect
import re
from pathlib import Path

import pytest

from samebits.core.errors import NoEngineError
from samebits.core.run_config import RunConfig
from samebits.host import docker, engine_config
from samebits.host.launch.runtime import choose_runtime
from support.command import ROOT


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any engine; returns the client's configuration, which is not there."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(engine_config, "SOCKET", str(tmp_path / "docker.sock"))

    def connect(*_: object) -> object:
        raise OSError("nobody answers")

    monkeypatch.setattr(docker, "_connect", connect)
    return tmp_path / "config.json"


def isolated() -> bool:
    try:
        return choose_runtime(RunConfig(script=Path("train.py"))).isolated
    except NoEngineError:
        return True


@pytest.mark.parametrize("content", [None, "{}", '{"currentContext": "default"}', '{"auths": {}}'])
def test_without_an_engine(client: Path, content: str | None) -> None:
    if content is not None:
        client.write_text(content)
    assert not engine_config.is_configured()
    assert not isolated()


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"currentContext": "mine"}', '{"currentContext": 3}', "\0"])
def test_a_client_that_is_configured(client: Path, content: str) -> None:
    client.write_text(content)
    assert engine_config.is_configured()
    assert isolated()


@pytest.mark.parametrize("name", ["DOCKER_HOST", "DOCKER_CONTEXT"])
def test_a_variable_that_names_an_engine(client: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert not client.exists()
    monkeypatch.setenv(name, "x")
    assert isolated()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nothing")])
def test_a_socket_that_nobody_listens_at(client: Path, make: object) -> None:
    assert callable(make)
    make(client.with_name("docker.sock"))
    assert isolated()


def test_the_page_says_when_an_engine_is_configured() -> None:
    """`docs/your-script.md` defines it, for all pages and messages."""
    page = (ROOT / "docs" / "your-script.md").read_text()
    _, _, section = page.partition("\n## Container or virtual environment\n")
    looked_at = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", engine_config.SOCKET, "`config.json`", "`default`")
    assert [name for name in looked_at if name not in section.partition("\n## ")[0]] == []
    source = inspect.getsource(engine_config.is_configured)
    assert set(re.findall(r"DOCKER_[A-Z]+", source)) < set(looked_at)


@pytest.mark.parametrize("error", [KeyError("Host"), TypeError(), AttributeError(), ValueError(), PermissionError()])
def test_whatever_the_client_raises_is_one_line(
    client: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """As it does for a configuration that is not as it expects."""
    client.write_text('{"currentContext": "mine"}')

    def connect(*_: object) -> object:
        raise error

    monkeypatch.setattr(docker, "_connect", connect)
    with pytest.raises(NoEngineError, match=r"; start one$") as caught:
        docker.Engine()
    assert caught.value.configured
