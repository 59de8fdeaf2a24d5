"""The Pythons of a machine: this one, others on the search path, and what a version manager leaves there."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.host import interpreters
from samebits.host.interpreters import find_interpreter, recorded_interpreter, this_interpreter


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A search path of one folder, and no version manager."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(interpreters, "_MANAGED", ())
    interpreters._find.cache_clear()
    yield tmp_path
    interpreters._find.cache_clear()


def _python(folder: Path, name: str, version: str, implementation: str = "cpython") -> Path:
    answer = json.dumps([f"/opt/{name}", version, f"{version} (a build)", implementation])
    command = folder / name
    command.write_text(f"#!/bin/sh\necho '{answer}'\n")
    command.chmod(0o755)
    return command


@pytest.mark.usefixtures("path")
def test_the_python_of_this_process() -> None:
    own = this_interpreter()
    assert find_interpreter(None) == own
    assert find_interpreter(f"{sys.version_info[0]}.{sys.version_info[1]}") == own
    assert own.minor == sys.version_info[:2]
    assert own.tools == {}, "it finds its own pip"


def test_another_one_by_its_version(path: Path) -> None:
    _python(path, "python3.99", "3.99.4")
    found = find_interpreter("3.99")
    assert (found.path, found.version, found.minor) == (Path("/opt/python3.99"), "3.99.4", (3, 99))
    assert list(found.tools) == ["PYTHONPATH"]
    assert recorded_interpreter("3.99.4") == found
    assert recorded_interpreter("3.99.5") == this_interpreter(), "another patch release is another recipe"


@pytest.mark.parametrize("version", ["3.98.1", "3.9.9"])
def test_a_command_that_is_another_version(path: Path, version: str) -> None:
    _python(path, "python3.99", version)
    with pytest.raises(InputError, match=r"^this machine has no Python 3\.99, which the project asks for; install it"):
        find_interpreter("3.99")


def test_what_is_no_python_is_passed_over(path: Path) -> None:
    """Such as the command of a version manager that has no such version chosen; PyPy has other bits."""
    _python(path, "python3.99", "3.99.4", "pypy")
    with pytest.raises(InputError, match=r"no Python 3\.99"):
        find_interpreter("3.99")
    for answer in ("{}", "7", "null", '["3.99"]', '["/opt/x", 3.99, "x", "cpython"]', "[" * 100_000):
        (path / "python3.99").write_text(f"#!/bin/sh\necho '{answer}'\n")
        interpreters._find.cache_clear()
        with pytest.raises(InputError, match=r"no Python 3\.99"):
            find_interpreter("3.99")
    (path / "python3.97").write_text("#!/bin/sh\nexit 127\n")
    (path / "python3.97").chmod(0o755)
    with pytest.raises(InputError, match=r"no Python 3\.97"):
        find_interpreter("3.97")
