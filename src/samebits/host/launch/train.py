"""`samebits train`: plan a run, execute it in its runtime, and make sure that its record is finalized."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from samebits.core.code_tree import describe_code, read_script
from samebits.core.declared_env import credential_arguments
from samebits.core.errors import EXIT_ERROR, EXIT_OK, RecordError, SamebitsError, Terminated, shorten
from samebits.core.ledger import lock_alive
from samebits.core.record import FAILED, INTERRUPTED, Outcome, Record, interrupted, read_record
from samebits.core.redaction import forms
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import PlannedRun, plan_run, publish
from samebits.core.tree_walk import require_folder
from samebits.host.audit.checkpoint_audit import why_not_resumable
from samebits.host.console import hashing_progress, log
from samebits.host.data_cache import data_hasher, forget_wrong_data
from samebits.host.inputs.store import provide
from samebits.host.launch.git_commit import with_commit
from samebits.host.launch.kept_run import KeptRun
from samebits.host.launch.run_limits import USUAL, RunLimits, limited
from samebits.host.launch.runtime import Runtime, choose_runtime
from samebits.host.launch.staging import has_staging
from samebits.host.launch.tidy import files_that_hold, take_rights
from samebits.host.run_folders import note_folder, note_run
from samebits.host.subprocesses import INHERITED, Streams
from samebits.host.trust import note_trained

CRASHED = "the training process crashed"
"""How the message begins where a signal of its own ended the process."""

# Sent by a person, a scheduler or the kernel. A script's own crash is another one, such as SIGSEGV or SIGABRT.
_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def train(spec: RunConfig, limits: RunLimits = USUAL) -> tuple[RunDir, int]:
    """Train once; returns the run's folder and the exit status: 0, 1 if the script failed, 2 for an error."""
    require_given(spec)
    runtime = choose_runtime(spec)
    # Hashing follows the choice of the runtime: a missing image is reported before gigabytes are read.
    with hashing_progress("hashing the data") as progress:
        planned = plan_run(spec, runtime.setup, progress, hasher=data_hasher(spec))
    if note := describe_code(spec, planned.code):
        log(note)
    for option in credential_arguments(spec.arguments):
        if option.lstrip("-") not in spec.redacted:
            name = option.lstrip("-")
            log(f"the value of {option} looks like a secret, and the record shows it; train with --redact {name}")
    with _resumable_after_interrupt() as begun:
        folder, status = execute(with_commit(planned), runtime, limits=limits, begun=begun)
    if held := files_that_hold(folder.path, forms(spec.redacted.values())):
        log(f"the script left a redacted value in {shorten(held, 5)}; look at that before you hand the run over")
    return folder, status


def require_given(spec: RunConfig) -> None:
    """Raise InputError where script or data are missing: what cannot run must neither build an image nor wait."""
    read_script(spec.script)
    if spec.data is not None:
        require_folder(spec.data, "data")


@contextmanager
def _resumable_after_interrupt() -> Iterator[Callable[[RunDir], object]]:
    """Say after Ctrl-C how to continue the run that was begun, where that is possible."""
    runs: list[RunDir] = []
    try:
        yield runs.append
    except (KeyboardInterrupt, Terminated):
        with suppress(SamebitsError):
            for run in runs:
                if why_not_resumable(run, run.read()) is None:
                    log(f"`samebits resume {run.path.name}` continues the run")
        raise


def execute(
    planned: PlannedRun,
    runtime: Runtime,
    streams: Streams = INHERITED,
    limits: RunLimits = USUAL,
    begun: Callable[[RunDir], object] = lambda _: None,
) -> tuple[RunDir, int]:
    """Execute a planned run until its record is finalized; returns what `train` returns.

    `begun` is called with the run's folder before anything starts.
    """
    # Before the run's folder exists: a failed installation must not leave an empty run.
    runtime.prepare()
    if planned.inputs is not None:
        with hashing_progress("checking the inputs") as progress:
            provide(planned.inputs, progress)
    folder, published = publish(planned)
    note_folder(folder.path.parent)
    note_run(folder)
    begun(folder)
    if not runtime.isolated:
        note_trained(planned.recipe, folder)
    # While this lock is held, other commands list the run as running. The kernel releases it if this process is killed.
    lock = lock_alive(folder.ledger)
    kept = KeptRun(folder, published) if runtime.isolated else None
    try:
        if kept is not None:
            kept.begin()
        with limited(folder.path, limits):
            status = runtime.run(folder, planned.spec, streams)
        status = _concluded_status(folder, kept, status)
        _require_planned(folder, published)
        forget_wrong_data(planned, folder)
        return folder, status
    # A process that was killed, or never started, has not finalized its record. The host does it.
    except (KeyboardInterrupt, Terminated):
        _end_early(folder, kept, lambda record: interrupted(record, "stopped before it could finalize its record"))
        raise
    except SamebitsError as error:
        message = str(error)
        _end_early(folder, kept, lambda record: replace(record, outcome=Outcome(state=FAILED, message=message)))
        raise
    finally:
        os.close(lock)
        if runtime.isolated:
            take_rights(folder.path)


def _conclude(kept: KeptRun | None) -> None:
    """Take over what there is of a run that ends early; what prevents that is logged."""
    try:
        if kept is not None:
            kept.conclude()
    except SamebitsError as error:
        log(str(error))


def _end_early(folder: RunDir, kept: KeptRun | None, end: Callable[[Record], Record]) -> None:
    """Finalize the record, unless results are left that could not be taken over: a final record would strand them."""
    _conclude(kept)
    if kept is None or not has_staging(folder):
        finalize_unfinished(folder, end)
    else:
        log(f"what the run left is still in {folder.staging}; `samebits resume {folder.path.name}` takes it over")


def _concluded_status(folder: RunDir, kept: KeptRun | None, status: int) -> int:
    """The exit status once the record is finalized; an error where the launcher refused what the process reported."""
    if kept is None:
        return _finalized_status(folder, status)
    kept.conclude(status)
    status = _finalized_status(folder, status)
    return status or (EXIT_OK if folder.read().outcome.state != FAILED else EXIT_ERROR)


def _require_planned(folder: RunDir, published: Record) -> None:
    """Raise RecordError where the finished record is about another run than the planned one: the script wrote it."""
    found = read_record(folder.record)
    facts = (
        ("id", found.id, published.id),
        ("recipe", found.recipe.digest, published.recipe.digest),
        ("start", found.started, published.started),
        ("git commit", found.origin.git, published.origin.git),
        ("list of attempts", found.origin.attempts, published.origin.attempts),
        ("use of the data cache", found.origin.data_cache, published.origin.data_cache),
    )
    if forged := [name for name, here, wanted in facts if here != wanted]:
        raise RecordError(f"{folder.record} was forged: another {', '.join(forged)} than planned; do not rely on it")


def execute_silently(planned: PlannedRun, runtime: Runtime) -> RunDir:
    """Like `execute`, but the script's output is discarded; the record holds the outcome."""
    with open(os.devnull, "wb") as null:
        folder, _ = execute(planned, runtime, Streams(out=null, err=null))
    return folder


def _finalized_status(folder: RunDir, status: int) -> int:
    """The exit status of a finished process; if it died before it finalized its record, that is done here."""
    # The runner finalizes the record itself, unless it was killed.
    if read_record(folder.record).finalized:
        return status
    outcome = _unfinished_outcome(status)
    log(str(outcome.message))
    finalize_unfinished(folder, lambda record: replace(record, outcome=outcome))
    return EXIT_ERROR


def _unfinished_outcome(status: int) -> Outcome:
    """The outcome of a process that ended without finalizing its record: interrupted if another one ended it."""
    number = _signal_of(status)
    if number not in _FROM_OUTSIDE:
        message = f"the training process ended with status {status} before it finalized its record"
        if number is not None:
            message = f"{CRASHED} with {number.name} (status {status}), in compiled code that the script uses"
        return Outcome(state=FAILED, message=message)
    message = f"the training process was killed by {number.name}"
    if number == signal.SIGKILL:
        message += ": by the system because memory ran out, or by someone"
    return Outcome(state=INTERRUPTED, message=message)


def _signal_of(status: int) -> signal.Signals | None:
    """The signal that ended a process: -9 is a process's own status, 137 that of a container or a shell."""
    with suppress(ValueError):
        return signal.Signals(-status if status < 0 else status - 128)
    return None


def finalize_unfinished(folder: RunDir, end: Callable[[Record], Record]) -> None:
    """Finalize the record of a run that did not do so itself; `end` adds the outcome."""
    record = read_record(folder.record)
    if not record.finalized:
        folder.finalize(end(record))


def describe_run(folder: RunDir) -> dict[str, Any]:
    """The JSON object that `train --json` prints."""
    record = folder.read()
    return {
        "run": str(folder.path),
        "outcome": record.outcome.state,
        "recipe": str(record.recipe.digest),
        "result": None if record.result_digest is None else str(record.result_digest),
    }
