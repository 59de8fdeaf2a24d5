"""`samebits train`: prepare a run, have its runtime carry it out, and see to it that it ends sealed."""

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
from samebits.host.subprocesses import OURS, Streams


def train(spec: RunConfig) -> tuple[RunDir, int]:
    """Train once; returns the run's folder and exit status: 0, 1 for a script that failed, 2 for an error."""
    runtime = choose_runtime(spec)
    with hashing_progress("hashing the data") as progress:
        planned = plan_run(spec, runtime.setup, progress)
    return execute(planned, runtime)


def execute(planned: PlannedRun, runtime: Runtime, streams: Streams = OURS) -> tuple[RunDir, int]:
    """Run what was planned until its record is sealed."""
    runtime.prepare()
    folder, _ = publish(planned)
    held = lock_alive(folder.ledger)
    try:
        status = runtime.run(folder, planned.spec, streams)
        return folder, _finalized_status(folder, status)
    except (KeyboardInterrupt, Terminated):
        finalize_unfinished(folder, lambda record: interrupted(record, "stopped before it could seal its own record"))
        raise
    except SamebitsError as error:
        message = str(error)
        finalize_unfinished(folder, lambda record: replace(record, outcome=Outcome(state=FAILED, message=message)))
        raise
    finally:
        os.close(held)


def execute_silently(planned: PlannedRun, runtime: Runtime) -> RunDir:
    """The same without a word of the script's: the record tells how it went."""
    with open(os.devnull, "wb") as nowhere:
        folder, _ = execute(planned, runtime, Streams(out=nowhere, err=nowhere))
    return folder


def _finalized_status(folder: RunDir, status: int) -> int:
    """The exit status, once the record is sealed; a run that died without a word is sealed here as failed."""
    if read_record(folder.record).finalized:
        return status
    killed = status in (137, -9)
    message = f"the training process ended with status {status} before it sealed its record" + (
        "; it was killed, most likely for want of memory" if killed else ""
    )
    log(message)
    finalize_unfinished(folder, lambda record: replace(record, outcome=Outcome(state=FAILED, message=message)))
    return 2


def finalize_unfinished(folder: RunDir, end: Callable[[Record], Record]) -> None:
    """Seal the record of a run that did not do it itself, with the end that `end` gives it."""
    record = read_record(folder.record)
    if not record.finalized:
        folder.reserve.unlink(missing_ok=True)
        finalize(folder.record, end(record))


def describe_run(folder: RunDir) -> dict[str, Any]:
    """What `train --json` prints."""
    record = folder.read()
    return {
        "run": str(folder.path),
        "outcome": record.outcome.state,
        "recipe": str(record.recipe.digest),
        "result": None if record.result_digest is None else str(record.result_digest),
    }
