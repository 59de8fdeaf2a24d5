"""The runtime where no engine answers: a virtual environment from the same lock, and a process in it."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import InputError, Terminated
from samebits.host.cache_dir import cache_folder, exclusive
from samebits.host.console import log
from samebits.host.image.build_context import CPU, context_file, staged_recipe
from samebits.host.subprocesses import OURS, Streams, run_tool, start, stop_gently

_PYTHONS = ((3, 11), (3, 13))  # first and last that every pin of the lock has wheels for
STOP_SECONDS = 15.0
"""Seconds that a stopped script has to seal its record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessRequest:
    """One training in the virtual environment, as it will be started."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path


def locked_python(recipe: Path | None = None) -> Path:
    """The Python of the environment for a recipe's lock (None: ours), made on first use; wheels are checked."""
    _check_python()
    lock = context_file(CPU.lock) if recipe is None else recipe / "lock" / "requirements.lock"
    folder = cache_folder("venvs")
    name = f"{Digest.of_file(lock).hex[:16]}-cp{sys.version_info[0]}{sys.version_info[1]}"
    target = folder / name
    with exclusive(folder, name):
        if not target.exists():
            _make(target, lock)
    return target / "bin" / "python"


def _check_python() -> None:
    found = sys.version_info[:2]
    if not _PYTHONS[0] <= found <= _PYTHONS[1]:
        raise InputError(
            f"the locked packages have no wheels for Python {found[0]}.{found[1]}; run samebits with Python 3.11 to"
            " 3.13, or start a container engine"
        )


def _make(target: Path, lock: Path) -> None:
    """Build beside the final name, then rename: a build that was cut off is never used."""
    log("installing the locked packages into a virtual environment (once for this lock; about 320 MB)")
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft-"))
    try:
        run_tool([sys.executable, "-m", "venv", "--without-pip", str(draft)], what="making a virtual environment")
        run_tool(
            [
                *(sys.executable, "-m", "pip", "--python", str(draft / "bin" / "python"), "install", "--quiet"),
                *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check"),
                *("-r", str(lock)),
            ],
            what="installing the locked packages",
        )
        os.rename(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def plan_process(
    words: tuple[str, ...], variables: Mapping[str, str], *, scratch: Path, python: Path, source: Path
) -> ProcessRequest:
    """The entrypoint with these words: nothing of our own environment reaches it; `scratch` is its home."""
    environment = {
        **variables,
        "HOME": str(scratch),
        "KERAS_HOME": str(scratch / ".keras"),
        "TMPDIR": str(scratch),
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(source),
    }
    command = (str(python), "-P", "-m", entry_module(source), *words)
    return ProcessRequest(command=command, environment=environment, folder=scratch)


def entry_module(source: Path) -> str:
    """The package that a recipe's source is started by: up to version 0.1.0 it was called `container`."""
    return "samebits.runner" if (source / "samebits" / "runner").is_dir() else "samebits.container"


def run_in_venv(
    words: tuple[str, ...], variables: Mapping[str, str], recipe: Path | None = None, streams: Streams = OURS
) -> int:
    """Run the entrypoint; Ctrl-C and SIGTERM are passed on, and it is given time to seal its record.

    `recipe` is a folder with lock and source; None is ours.
    """
    python, source = locked_python(recipe), (recipe or staged_recipe()).resolve() / "source"
    with tempfile.TemporaryDirectory(prefix="samebits-") as scratch:
        request = plan_process(words, variables, scratch=Path(scratch), python=python, source=source)
        with start(request.command, environment=request.environment, folder=request.folder, streams=streams) as process:
            try:
                return process.wait()
            except (KeyboardInterrupt, Terminated) as stop:
                log("stopping; the record is being sealed" if "--run" in words else "stopping")
                stop_gently(
                    process, signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM, STOP_SECONDS
                )
                raise
            finally:
                process.kill()
