"""Runs the script as Python would, and reports how it ended."""

import os
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from pathlib import Path

from samebits.core.errors import EXIT_SCRIPT_FAILED, SamebitsError
from samebits.core.record import FAILED, FINISHED, Outcome
from samebits.core.trace_level import TraceEnded
from samebits.runner.process.signals import Signals


def run_script(
    path: Path, arguments: Sequence[str], signals: Signals, check: Callable[[], None] = lambda: None
) -> Outcome:
    """Execute `path` as `__main__` in its folder, and return the outcome.

    Exceptions of the script become part of the outcome; those of samebits and of signals are raised. `check` raises the
    exception with which samebits ended the script, as a library may have replaced it.
    """
    os.chdir(path.parent)
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    # A new module, as `__main__` is this package's own.
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=str(path), __builtins__=__builtins__)
    # This also keeps the script's objects alive until they are digested.
    sys.modules["__main__"] = module
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except SystemExit as stop:
        return _stopped(stop)
    except (SamebitsError, TraceEnded):
        # Keras wraps exceptions from its callbacks; `check` raises the original one.
        check()
        raise
    except BaseException as error:  # a script may raise anything, KeyboardInterrupt included
        # A library may turn Ctrl-C or SIGTERM into an error of its own.
        if signals.received is not None:
            raise
        check()
        return _raised(error)
    return Outcome(state=FINISHED, exit_status=0)


def end_fork(process: int, status: int) -> None:
    """End a child that the script forked, and that came to the script's end: the run's record is its parent's.

    `process` is the one that trains.
    """
    if os.getpid() != process:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _stopped(stop: SystemExit) -> Outcome:
    """The outcome of `sys.exit`: finished for None or 0, failed for anything else."""
    if stop.code is None or stop.code == 0:
        return Outcome(state=FINISHED, exit_status=0)
    if isinstance(stop.code, int):
        return Outcome(state=FAILED, message=f"the script exited with status {stop.code}", exit_status=stop.code)
    print(stop.code, file=sys.stderr)
    return Outcome(state=FAILED, message=f"the script exited: {stop.code}", exit_status=EXIT_SCRIPT_FAILED)


def _raised(error: BaseException) -> Outcome:
    """The outcome of an exception, with the traceback from the script's first line on."""
    trace = error.__traceback__
    # The first entry is this module's call of `exec`.
    text = "".join(traceback.format_exception(type(error), error, trace.tb_next if trace else None))
    sys.stderr.write(text)
    first = (str(error).strip().splitlines() or [""])[0]
    message = f"the script failed: {type(error).__name__}" + (f": {first}" if first else "")
    return Outcome(state=FAILED, message=message, traceback=text, exit_status=EXIT_SCRIPT_FAILED)
