"""Run the user's script as Python would, and say how it ended."""

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
    """Execute `path` as `__main__` in its folder; its exceptions become an outcome, ours and signals' pass through.

    `check` raises what of ours has ended the script already: a library may have made something else of it.
    """
    os.chdir(path.parent)
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=str(path), __builtins__=__builtins__)
    sys.modules["__main__"] = module  # also keeps the script's own objects alive until they are digested
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except SystemExit as stop:
        return _stopped(stop)
    except (SamebitsError, TraceEnded):
        check()  # the words that were raised; Keras wraps them in its own
        raise
    except BaseException as error:  # a script may raise anything, KeyboardInterrupt included
        if signals.received is not None:
            raise
        check()
        return _raised(error)
    return Outcome(state=FINISHED, exit_status=0)


def _stopped(stop: SystemExit) -> Outcome:
    """`sys.exit` with nothing or 0 is an end like any other."""
    if stop.code is None or stop.code == 0:
        return Outcome(state=FINISHED, exit_status=0)
    if isinstance(stop.code, int):
        return Outcome(state=FAILED, message=f"the script exited with status {stop.code}", exit_status=stop.code)
    print(stop.code, file=sys.stderr)
    return Outcome(state=FAILED, message=f"the script exited: {stop.code}", exit_status=EXIT_SCRIPT_FAILED)


def _raised(error: BaseException) -> Outcome:
    """An exception, with the traceback from the script's first line on."""
    trace = error.__traceback__
    text = "".join(traceback.format_exception(type(error), error, trace.tb_next if trace else None))
    sys.stderr.write(text)
    first = (str(error).strip().splitlines() or [""])[0]
    message = f"the script failed: {type(error).__name__}" + (f": {first}" if first else "")
    return Outcome(state=FAILED, message=message, traceback=text, exit_status=EXIT_SCRIPT_FAILED)
