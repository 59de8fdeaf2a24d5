"""A process in the virtual environment, as it will be started; and how that environment is made."""

from pathlib import Path
from typing import Any

import pytest

from samebits.host.launch import venv


def test_nothing_of_the_callers_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    python = tmp_path / "bin" / "python"
    request = venv.plan_process(("--run", "r"), {"TZ": "UTC"}, scratch=tmp_path, python=python, source=tmp_path / "s")
    assert set(request.environment) == {
        *("HOME", "KERAS_HOME", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONUNBUFFERED", "TMPDIR", "TZ")
    }
    assert request.environment["PYTHONPATH"] == str(tmp_path / "s")
    assert request.environment["HOME"] == str(request.folder) == str(tmp_path)
    assert request.command[-2:] == ("--run", "r")


@pytest.mark.parametrize(("package", "module"), [("runner", "samebits.runner"), ("container", "samebits.container")])
def test_the_module_that_a_recipes_source_is_started_by(package: str, module: str, tmp_path: Path) -> None:
    """Runs of version 0.1.0 keep a source in which it was called otherwise."""
    (tmp_path / "samebits" / package).mkdir(parents=True)
    request = venv.plan_process((), {}, scratch=tmp_path, python=tmp_path / "python", source=tmp_path)
    assert request.command[1:] == ("-P", "-m", module)


def test_wheels_are_checked_by_their_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing that the lock does not name is installed, nor built from source."""
    called: list[list[str]] = []

    def run_tool(command: list[str], **_: Any) -> str:
        called.append(command)
        return ""

    monkeypatch.setattr(venv, "run_tool", run_tool)
    lock = tmp_path / "requirements.lock"
    venv._make_venv(tmp_path / "venv", lock)
    install = called[-1]
    assert {"install", "--require-hashes", "--no-deps", "--only-binary"} <= set(install)
    assert install[-2:] == ["-r", str(lock)]
