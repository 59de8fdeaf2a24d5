"""The runtime without a container engine: a process in a virtual environment made from the same lock."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import InputError, Terminated, ToolError
from samebits.core.source_digest import LOCK_PATH, PACKAGES_PATH
from samebits.host.cache_dir import cache_folder, exclusive
from samebits.host.console import log, log_progress
from samebits.host.image.build_context import WHEELS_PATH, staged_context
from samebits.host.image.lockfile import read_lock, text_of
from samebits.host.interpreters import Interpreter, this_interpreter
from samebits.host.interrupts import raise_pending
from samebits.host.launch.installed_files import check_files, record_files
from samebits.host.subprocesses import INHERITED, Streams, run_tool, start, stop_gently

# The first and the last Python for which every pin of the lock has a wheel.
_SUPPORTED_PYTHONS = ((3, 11), (3, 13))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessRequest:
    """One process beside this one, to be started."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path


def locked_python(
    context: Path | None = None, interpreter: Interpreter | None = None, packed: Path | None = None
) -> Path:
    """The Python of the virtual environment for a build context's locks (None: this installation's).

    The environment is made on first use, from the wheels in the folder `packed` if they suffice. pip checks every wheel
    against the hashes in the locks.
    """
    interpreter = interpreter or this_interpreter()
    _check_python(interpreter)
    context = context or staged_context()
    locks = [path for path in (context / LOCK_PATH, context / PACKAGES_PATH) if path.exists()]
    folder = cache_folder("venvs")
    # Environments are shared by all runs with the same locks and the same interpreter.
    named = locks_name([Digest.of_file(lock) for lock in locks])
    name = f"{named}-cp{interpreter.minor[0]}{interpreter.minor[1]}-{interpreter.digest.hex[:8]}"
    target = folder / name
    with exclusive(folder, name):
        if not target.exists():
            _make_venv(target, locks, interpreter, context / WHEELS_PATH, packed)
    return target / "bin" / "python"


def locks_name(digests: Sequence[Digest]) -> str:
    """How the name of the environment for these locks begins: samebits's own, then that of a project's packages."""
    # One lock names its environment as in earlier versions.
    return (Digest.of_json([str(digest) for digest in digests]) if digests[1:] else digests[0]).hex[:16]


def prepare_venv(
    context: Path | None = None,
    interpreter: Interpreter | None = None,
    packed: Path | None = None,
    *,
    thorough: bool = False,
) -> None:
    """Make the virtual environment where it is missing; raises ImageError where a cached one was changed."""
    check_files(locked_python(context, interpreter, packed).parents[1], thorough=thorough)


def _check_python(interpreter: Interpreter) -> None:
    found = interpreter.minor
    if not _SUPPORTED_PYTHONS[0] <= found <= _SUPPORTED_PYTHONS[1]:
        raise InputError(
            f"the locked packages have no wheels for Python {found[0]}.{found[1]}; run samebits with Python 3.11 to"
            " 3.13, or start a container engine"
        )


def _make_venv(
    target: Path,
    locks: Sequence[Path],
    interpreter: Interpreter,
    built: Path | None = None,
    packed: Path | None = None,
) -> None:
    """Install beside the final name, then rename: an interrupted installation is never used."""
    log_progress(
        "installing the locked packages into a virtual environment (once for this lock and Python; about 320 MB)"
    )
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft-"))
    try:
        # Without pip: the script sees the locked packages only. The pip of this process installs them.
        made_by = [str(interpreter.path), "-m", "venv", "--without-pip", str(draft)]
        run_tool(made_by, what="making a virtual environment")
        requirements = [draft / f"requirements-{number}.txt" for number, _ in enumerate(locks)]
        for file, lock in zip(requirements, locks, strict=True):
            # Written anew: nothing of a lock reaches pip but names, versions, markers and hashes.
            file.write_text(text_of(read_lock(lock)))
        _install(draft / "bin" / "python", requirements, built, packed)
        for file in requirements:
            file.unlink()
        _check_complete(draft, locks)
        record_files(draft)
        os.rename(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _install(python: Path, requirements: Sequence[Path], built: Path | None, packed: Path | None) -> None:
    """Install from the wheels of a capsule; from an index where there are none, or they do not fit this machine."""
    command = [
        *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"),
        # No resolver and no builds: every package is a wheel whose hash is in the lock.
        *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check"),
        *(("--find-links", str(built)) if built is not None and built.is_dir() else ()),
    ]
    files = [part for file in requirements for part in ("-r", str(file))]
    if packed is not None:
        try:
            # An index that cannot be reached would cost pip some seconds for each package.
            run_tool([*command, "--no-index", "--find-links", str(packed), *files], what="installing packed wheels")
            return
        except ToolError as error:
            log(f"the capsule's wheels cannot be used, so the package index is asked: {error}")
    run_tool([*command, *files], what="installing the locked packages")


def _check_complete(draft: Path, locks: Sequence[Path]) -> None:
    """Raise ToolError where a package of a project lacks another one, or needs another version of it."""
    # samebits's own lock is complete.
    if locks[1:]:
        python = str(draft / "bin" / "python")
        run_tool([sys.executable, "-m", "pip", "--python", python, "check"], what="checking the project's lock")


def plan_process(
    arguments: tuple[str, ...], variables: Mapping[str, str], *, scratch: Path, python: Path, source: Path
) -> ProcessRequest:
    """A call of the entrypoint; the caller's environment is not passed on, and `scratch` is its home."""
    # A variable of the caller that reached TensorFlow would be outside the recipe.
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
    # -P keeps the current folder off the import path: a file of the user must not shadow a module.
    command = (str(python), "-P", "-m", entry_module(source), *arguments)
    return ProcessRequest(command=command, environment=environment, folder=scratch)


def entry_module(source: Path) -> str:
    """The package that starts a build context's source; up to version 0.1.0 it was `samebits.container`."""
    # Runs keep their source, so a run of an older version starts its own entrypoint.
    return "samebits.runner" if (source / "samebits" / "runner").is_dir() else "samebits.container"


def run_in_venv(
    arguments: tuple[str, ...],
    variables: Mapping[str, str],
    context: Path | None = None,
    streams: Streams = INHERITED,
    home: Path | None = None,
    interpreter: Interpreter | None = None,
    packed: Path | None = None,
) -> int:
    """Run the entrypoint and return its exit status; Ctrl-C and SIGTERM are passed on.

    `context` is a build context with lock and source; None stands for this installation's. `home` is where the process
    may write; None stands for a folder that is removed at the end.
    """
    python, source = locked_python(context, interpreter, packed), (context or staged_context()).resolve() / "source"
    with tempfile.TemporaryDirectory(prefix="samebits-") if home is None else nullcontext(str(home)) as scratch:
        return run_process(
            plan_process(arguments, variables, scratch=Path(scratch), python=python, source=source), streams
        )


def run_process(request: ProcessRequest, streams: Streams = INHERITED) -> int:
    """Run an entrypoint to its end and return its exit status; Ctrl-C and SIGTERM are passed on."""
    with start(request.command, environment=request.environment, folder=request.folder, streams=streams) as process:
        try:
            raise_pending()
            return process.wait()
        except (KeyboardInterrupt, Terminated) as stop:
            log("stopping; the record is being finalized" if "--run" in request.command else "stopping")
            stop_gently(process, signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)
            raise
        finally:
            # Also after an error of this process: nothing may keep training without a launcher.
            process.kill()
