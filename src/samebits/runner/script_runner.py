"""Runs the script as Python would, and reports how it ended."""

import importlib.util
import os
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from samebits.core.errors import EXIT_SCRIPT_FAILED, InputError, SamebitsError
from samebits.core.recipe import Code
from samebits.core.record import FAILED, FINISHED, Outcome
from samebits.core.redaction import hide, restored
from samebits.core.trace_level import TraceEnded
from samebits.runner.hints import hint
from samebits.runner.process.console import log
from samebits.runner.process.signals import Signals


def run_script(
    work: Path,
    code: Code,
    signals: Signals,
    check: Callable[[], None] = lambda: None,
    redacted: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """Execute the code's script or module, of which `work` is a copy, as `__main__`, and return the outcome.

    Exceptions of the script become part of the outcome; those of samebits and of signals are raised. `check` raises the
    exception with which samebits ended the script, as a library may have replaced it. `redacted` are values that the
    arguments lack, and the outcome does not name.
    """
    path = work / code.entry
    os.chdir(work / code.workdir)
    sys.argv = [str(path), *restored(code.arguments, redacted)]
    # A script finds its neighbours, a module what is in the working folder; PYTHONPATH comes next.
    first = path.parent if code.module is None else work / code.workdir
    sys.path[:0] = [str(item) for item in dict.fromkeys((first, *(work / folder for folder in code.pythonpath)))]
    # A new module, as `__main__` is this package's own.
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=str(path), __builtins__=__builtins__)
    # This also keeps the script's objects alive until they are digested.
    sys.modules["__main__"] = module
    try:
        exec(_compiled(path, code.module, module.__dict__), module.__dict__)  # noqa: S102
    except SystemExit as stop:
        return _stopped(stop, redacted)
    except (SamebitsError, TraceEnded):
        # Keras wraps exceptions from its callbacks; `check` raises the original one.
        check()
        raise
    except BaseException as error:  # a script may raise anything, KeyboardInterrupt included
        # A library may turn Ctrl-C or SIGTERM into an error of its own.
        if signals.received is not None:
            raise
        check()
        outcome = _raised(error, redacted)
        if text := hint(error, work, code):
            log(text)
        return outcome
    return Outcome(state=FINISHED, exit_status=0)


def _compiled(path: Path, module: str | None, names: dict[str, Any]) -> types.CodeType:
    """The code to execute. A module's packages are imported first, and `names` say what it belongs to."""
    if module is not None:
        spec = importlib.util.find_spec(module)
        # Another module of that name may be imported already, or come first on the path.
        if spec is None or spec.origin is None or not os.path.samefile(spec.origin, path):
            found = "nothing" if spec is None else spec.origin
            raise InputError(f"the module {module} is {found}, not the one in the code; rename it")
        names.update(__spec__=spec, __package__=spec.parent, __loader__=spec.loader)
    return compile(path.read_bytes(), str(path), "exec", dont_inherit=True)


def end_fork(process: int, status: int) -> None:
    """End a child that the script forked, and that came to the script's end: the run's record is its parent's.

    `process` is the one that trains.
    """
    if os.getpid() != process:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _stopped(stop: SystemExit, redacted: Mapping[str, str]) -> Outcome:
    """The outcome of `sys.exit`: finished for None or 0, failed for anything else."""
    if stop.code is None or stop.code == 0:
        return Outcome(state=FINISHED, exit_status=0)
    if isinstance(stop.code, int):
        return Outcome(state=FAILED, message=f"the script exited with status {stop.code}", exit_status=stop.code)
    text = hide(str(stop.code), redacted)
    with suppress(OSError):
        print(text, file=sys.stderr)
    return Outcome(state=FAILED, message=f"the script exited: {text}", exit_status=EXIT_SCRIPT_FAILED)


def _raised(error: BaseException, redacted: Mapping[str, str]) -> Outcome:
    """The outcome of an exception, with the traceback from the script's first line on."""
    trace = error.__traceback__
    # The first entry is this module's call of `exec`.
    text = hide("".join(traceback.format_exception(type(error), error, trace.tb_next if trace else None)), redacted)
    # Who reads the output may be gone, which may be the very reason; the record holds the text.
    with suppress(OSError):
        sys.stderr.write(text)
    first = (hide(str(error), redacted).strip().splitlines() or [""])[0]
    message = f"the script failed: {type(error).__name__}" + (f": {first}" if first else "")
    return Outcome(state=FAILED, message=message, traceback=text, exit_status=EXIT_SCRIPT_FAILED)
