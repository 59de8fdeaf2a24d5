"""A process in the virtual environment, as it will be started; and how that environment is made."""

import sys
from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import ImageError, InputError, ToolError
from samebits.host.interpreters import this_interpreter
from samebits.host.launch import venv
from samebits.host.launch.installed_files import record_files


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

    given: list[str] = []
    pin = f"six==1.17.0 \\\n    --hash=sha256:{'0' * 64}\n"

    def run_tool(command: list[str], **_: Any) -> str:
        called.append(command)
        given.extend([Path(command[-1]).read_text()] if command[-2] == "-r" else [])
        return ""

    monkeypatch.setattr(venv, "run_tool", run_tool)
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"# a comment for people\n{pin}")
    venv._make_venv(tmp_path / "venv", [lock], this_interpreter())
    install = called[-1]
    assert (tmp_path / "venv" / "samebits-files.json").is_file()
    assert {"install", "--require-hashes", "--no-deps", "--only-binary"} <= set(install)
    assert given == [pin], "written anew"
    assert not list((tmp_path / "venv").glob("*.txt"))


@pytest.mark.parametrize("fits", [True, False])
def test_a_capsules_wheels_come_before_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: bool) -> None:
    """Without the index, and with the hashes of the lock; the index is asked where they do not fit this machine."""
    installed: list[list[str]] = []

    def run_tool(command: list[str], **_: Any) -> str:
        if "install" in command:
            installed.append(command)
            if not fits and "--no-index" in command:
                raise ToolError("no matching distribution")
        return ""

    monkeypatch.setattr(venv, "run_tool", run_tool)
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"six==1.17.0 --hash=sha256:{'0' * 64}\n")
    venv._make_venv(tmp_path / "venv", [lock], this_interpreter(), packed=tmp_path / "wheels")
    assert [("--no-index" in command, str(tmp_path / "wheels") in command) for command in installed] == (
        [(True, True)] if fits else [(True, True), (False, False)]
    )
    assert all({"--require-hashes", "--only-binary"} <= set(command) for command in installed)


@pytest.mark.parametrize(
    "option", ["--no-binary :all:", "--index-url http://127.0.0.1/", "--extra-index-url=x", "-e ."]
)
def test_pip_is_not_called_with_a_lock_that_holds_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(venv, "run_tool", lambda command, **_: called.append(command))
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"{option}\nsix==1.17.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(InputError, match="is an option; a lock holds pins only"):
        venv._make_venv(tmp_path / "venv", [lock], this_interpreter())
    assert not [command for command in called if "pip" in command]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose environments are made of one file."""
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))

    def make(target: Path, *_: object) -> None:
        (target / "bin").mkdir(parents=True)
        (target / "bin" / "python").touch()
        record_files(target)

    monkeypatch.setattr(venv, "_make_venv", make)
    return tmp_path / "cache"


def test_an_environment_belongs_to_its_interpreter(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To its path and its build: a package manager replaces the same version in the same place."""
    found = [venv.locked_python()]
    monkeypatch.setattr(sys, "version", f"{sys.version} and another build")
    found.append(venv.locked_python())
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3.99")
    found.append(venv.locked_python())
    assert found[2] == venv.locked_python()
    assert len({python.parents[1].parent for python in found}) == 1
    assert len(set(found)) == 3
    assert found[0].is_relative_to(cache / "venvs")


def test_a_changed_environment_is_not_used(cache: Path) -> None:
    venv.prepare_venv()
    (python,) = cache.glob("venvs/*/bin/python")
    python.write_text("#!/bin/sh\n")
    with pytest.raises(ImageError, match=r"was changed: bin/python \(changed\); remove it"):
        venv.prepare_venv()
