"""`samebits train`: plan a run, execute it in its runtime, and make sure that its record is finalized."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from samebits.core.errors import SamebitsError, Terminated
from samebits.core.ledger import lock_alive
from samebits.core.record import FAILED, Outcome, Record, finalize, interrupted, read_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import PlannedRun, plan_run, publish
from samebits.host.console import hashing_progress, log
from samebits.host.launch.runtime import Runtime, choose_runtime
from samebits.host.subprocesses import INHERITED, Streams


def train(spec: RunConfig) -> tuple[RunDir, int]:
    """Train once; returns the run's folder and the exit status: 0, 1 if the script failed, 2 for an error."""
    runtime = choose_runtime(spec)
    # Hashing follows the choice of the runtime: a missing image is reported before gigabytes are read.
    with hashing_progress("hashing the data") as progress:
        planned = plan_run(spec, runtime.setup, progress)
    return execute(planned, runtime)


def execute(planned: PlannedRun, runtime: Runtime, streams: Streams = INHERITED) -> tuple[RunDir, int]:
    """Execute a planned run until its record is finalized; returns what `train` returns."""
    # Before the run's folder exists: a failed installation must not leave an empty run.
    runtime.prepare()
    folder, _ = publish(planned)
    # While this lock is held, other commands list the run as running. The kernel releases it if this process is killed.
    lock = lock_alive(folder.ledger)
    try:
        status = runtime.run(folder, planned.spec, streams)
        return folder, _finalized_status(folder, status)
    # A process that was killed, or never started, has not finalized its record. The host does it.
    except (KeyboardInterrupt, Terminated):
        finalize_unfinished(folder, lambda record: interrupted(record, "stopped before it could finalize its record"))
        raise
    except SamebitsError as error:
        message = str(error)
        finalize_unfinished(folder, lambda record: replace(record, outcome=Outcome(state=FAILED, message=message)))
        raise
    finally:
        os.close(lock)


def execute_silently(planned: PlannedRun, runtime: Runtime) -> RunDir:
    """Like `execute`, but the script's output is discarded; the record holds the outcome."""
    with open(os.devnull, "wb") as null:
        folder, _ = execute(planned, runtime, Streams(out=null, err=null))
    return folder


def _finalized_status(folder: RunDir, status: int) -> int:
    """The exit status of a finished process; if it died before it finalized its record, the run is marked failed."""
    # The runner finalizes the record itself, unless it was killed.
    if read_record(folder.record).finalized:
        return status
    # 137 from a container and -9 from a process both mean SIGKILL, which the kernel sends when memory runs out.
    killed = status in (137, -9)
    message = f"the training process ended with status {status} before it finalized its record" + (
        "; it was killed, most likely because memory ran out" if killed else ""
    )
    log(message)
    finalize_unfinished(folder, lambda record: replace(record, outcome=Outcome(state=FAILED, message=message)))
    return 2


def finalize_unfinished(folder: RunDir, end: Callable[[Record], Record]) -> None:
    """Finalize the record of a run that did not do so itself; `end` adds the outcome."""
    record = read_record(folder.record)
    if not record.finalized:
        # The reserve keeps room on the disk for this last write.
        folder.reserve.unlink(missing_ok=True)
        finalize(folder.record, end(record))


def describe_run(folder: RunDir) -> dict[str, Any]:
    """The JSON object that `train --json` prints."""
    record = folder.read()
    return {
        "run": str(folder.path),
        "outcome": record.outcome.state,
        "recipe": str(record.recipe.digest),
        "result": None if record.result_digest is None else str(record.result_digest),
    }
