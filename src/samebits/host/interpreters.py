"""The Pythons of this machine: this process's own, and those of other versions that a project asks for."""

import functools
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import InputError, ToolError
from samebits.host.subprocesses import run_tool

# Where version managers keep Pythons without a link on the search path.
_MANAGED = ("~/.pyenv/versions/{}*/bin", "~/.local/share/uv/python/cpython-{}*/bin", "~/.asdf/installs/python/{}*/bin")
_QUESTION = (
    "import json, os, platform, sys;"
    "print(json.dumps([os.path.realpath(sys.executable), platform.python_version(), sys.version,"
    " sys.implementation.name]))"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """A Python: `version` is its full version, such as `3.12.1`, and `build` also names its compiler."""

    path: Path
    version: str
    build: str
    implementation: str = "cpython"

    @property
    def minor(self) -> tuple[int, int]:
        """Major and minor version."""
        major, minor, *_ = self.version.split(".")
        return int(major), int(minor)

    @property
    def tools(self) -> dict[str, str]:
        """The variables with which it finds the pip and pip-tools of this process; both are pure Python."""
        found = importlib.util.find_spec("piptools")
        own = os.path.realpath(self.path) == os.path.realpath(sys.executable)
        return {} if own or found is None else {"PYTHONPATH": str(Path(str(found.origin)).parents[1])}

    @property
    def digest(self) -> Digest:
        """Path, version and build: a virtual environment uses the interpreter's library."""
        return Digest.of_json([os.path.realpath(self.path), self.build, self.implementation])


def this_interpreter() -> Interpreter:
    """The Python of this process."""
    return Interpreter(
        path=Path(sys.executable),
        version=platform.python_version(),
        build=sys.version,
        implementation=sys.implementation.name,
    )


def find_interpreter(wanted: str | None) -> Interpreter:
    """A Python of a version such as `3.12`; None means this process's. Raises InputError where there is none."""
    found = this_interpreter() if wanted is None else _find(wanted)
    if found is None:
        raise InputError(
            f"this machine has no Python {wanted}, which the project asks for; install it, so that python{wanted} is on"
            " the search path, or change python in samebits.toml"
        )
    return found


def recorded_interpreter(version: str | None) -> Interpreter:
    """The Python of a recorded full version; this process's where the machine does not have that one."""
    return (None if version is None else _find(version)) or this_interpreter()


@functools.cache
def _find(wanted: str) -> Interpreter | None:
    """The first Python that answers with this version, or with this minor version."""
    own = this_interpreter()
    if _fits(own, wanted):
        return own
    return next((found for path in _candidates(wanted) if (found := _query(path)) and _fits(found, wanted)), None)


def _fits(found: Interpreter, wanted: str) -> bool:
    return found.implementation == "cpython" and f"{found.version}.".startswith(f"{wanted}.")


def _candidates(wanted: str) -> Iterator[Path]:
    """The commands that may be this Python, without those that are only links to one before."""
    name = "python" + ".".join(wanted.split(".")[:2])
    folders = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    for pattern in _MANAGED:
        base, rest = pattern.format(".".join(wanted.split(".")[:2])).split("/", 1)
        folders += sorted(Path(base).expanduser().glob(rest), reverse=True)
    yield from dict.fromkeys(path for folder in folders if (path := folder / name).is_file())


def _query(path: Path) -> Interpreter | None:
    """What a command says about itself; None where it is no Python, such as a version manager's without a version."""
    try:
        answer = json.loads(run_tool([str(path), "-I", "-c", _QUESTION], what=f"asking {path}", limit=20))
    except (ToolError, ValueError, RecursionError):
        return None
    # Another program of this name may print any JSON.
    if not isinstance(answer, list) or [type(item) for item in answer] != [str] * 4:
        return None
    found, version, build, implementation = answer
    return Interpreter(path=Path(found), version=version, build=build, implementation=implementation)
