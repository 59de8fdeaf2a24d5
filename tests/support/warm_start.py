"""Trainings that start warm: forked from a process that has TensorFlow imported, which is half of a short training.

The launcher is none the wiser: it starts `<cache>/venvs/<lock>/bin/python`, and in the tests' cache that is a small
program (`warm/client.py`). It has a server (`warm/server.py`) fork the training, whose environment is the same in all
that is read before or while libraries are imported; whatever is unusual it starts for real. Bits, ledger and settings
are those of a start for real, which `tests/runner/test_warm_start.py` checks.
"""

import fcntl
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from samebits.host.cache_dir import cache_folder
from samebits.host.launch.installed_files import record_files
from samebits.host.launch.venv import locked_python
from support.warm.client import usual

FOLDER = "SAMEBITS_TEST_WARM"
"""The variable that tells workers where the controller has put the folder of this session."""
_PROGRAMS = Path(__file__).parent / "warm"
_OTHERS = ("bases", "images", "source", "wheelhouse", "wheels")
"""What the tests' cache shares with the machine's own."""


def begin() -> Path:
    """On the controller: a folder that its workers find, too."""
    folder = Path(tempfile.mkdtemp(prefix="samebits-warm-"))
    os.environ[FOLDER] = str(folder)
    return folder


def end(folder: Path) -> None:
    """Servers end with the controller's process."""
    os.environ.pop(FOLDER, None)
    shutil.rmtree(folder, ignore_errors=True)


def log() -> list[str]:
    """A line for each start: `warm` or `cold`, and the words behind the module's name."""
    return (Path(os.environ[FOLDER]) / "log").read_text().splitlines()


def enter(patch: pytest.MonkeyPatch) -> None:
    """Make the environment of the lock where it is not there, and let trainings in it start warm from here on."""
    real = locked_python()
    folder = Path(os.environ[FOLDER])
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (folder / "cache").exists():
            _make(folder, real)
    patch.setenv("SAMEBITS_CACHE", str(folder / "cache"))


def entered() -> bool:
    """Whether trainings start warm."""
    return os.environ.get("SAMEBITS_CACHE") == f"{os.environ[FOLDER]}/cache"


def _make(folder: Path, real: Path) -> None:
    server = str(_PROGRAMS / "server.py")
    settings = {"python": str(real), "server": server, "usual": usual(), "controller": _controller()}
    (folder / "settings.json").write_text(json.dumps(settings))
    draft = folder / "draft"
    bin_folder = draft / "venvs" / real.parents[1].name / "bin"
    bin_folder.mkdir(parents=True)
    for name in _OTHERS:
        (draft / name).symlink_to(cache_folder(name))
    client = (_PROGRAMS / "client.py").read_text()
    python = bin_folder / "python"
    python.write_text(f"#!{os.path.realpath(sys.executable)} -IS\n{client}")
    python.chmod(0o755)
    record_files(bin_folder.parent)
    draft.rename(folder / "cache")


def _controller() -> int:
    """The process that outlives all workers."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
