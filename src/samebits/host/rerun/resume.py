"""`samebits resume`: continue a run that did not finish, to the same bits as without the interruption.

A finalized record is never changed. A new run with the same recipe begins with a copy of the old run's ledger and
checkpoints. Its record names the old run by its checksum.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from samebits.core.checkpoint_store import Position
from samebits.core.errors import InputError
from samebits.core.liveness import DEAD, HELD, UNKNOWN, Host
from samebits.core.origin import ResumedRun
from samebits.core.record import Record, interrupted, read_record
from samebits.core.run_config import BITWISE
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import Resumption
from samebits.host.audit.checkpoint_audit import CheckpointAudit, why_not_resumable
from samebits.host.audit.resume_point import describe_start
from samebits.host.audit.worker_audit import WorkerAudit, audit_workers, restrict
from samebits.host.console import log, log_progress
from samebits.host.launch.kept_run import adopt
from samebits.host.launch.staging import has_staging
from samebits.host.launch.train import execute, finalize_unfinished
from samebits.host.rerun.preflight import PreflightReport, preflight
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.script_output import filtered_output
from samebits.host.rerun.software import SoftwareOptions
from samebits.host.run_folders import was_begun_here
from samebits.host.runs.registry import checksum_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeOptions:
    """`trust` skips the replay proof; `retry` also resumes a run whose script failed by itself.

    `ended` declares that a run has ended which cannot be seen from here.
    """

    trust: bool = False
    retry: bool = False
    ended: bool = False


def resume(
    run: RunDir, request: RerunRequest, options: ResumeOptions, begun: Callable[[RunDir], object] = lambda _: None
) -> tuple[RunDir, int]:
    """Resume a run; returns the new run and its exit status, as `train` does. `begun` is called with the new run.

    The new run begins at the last but one usable checkpoint, and fails unless it reproduces the last one.
    Raises InputError if it cannot be resumed, or not exactly on this host; RecordError if its ledger was edited.
    """
    run, record = with_training(run, _ended(run, options))
    reason = why_not_resumable(run, record, retry=options.retry)
    if reason is not None:
        raise InputError(f"the run {record.id} cannot be resumed: {reason}")
    checkpoints = CheckpointAudit.of(run, record)
    workers = usable_workers(run, record, trust=options.trust)
    restrict(checkpoints, workers)
    report = _preflight_exactly(run, request)
    resumption = plan_resumption(run, record, checkpoints, trust=options.trust)
    begin = resumption.run
    start = describe_start(begin.checkpoint, begin.replays, trusted=bool(begin.trusted))
    log_progress(f"resuming {record.id} from {start}")
    # A run that was killed has no final record yet; its checksum is part of the new run's record.
    if not read_record(run.record).finalized:
        finalize_unfinished(run, lambda _: record)
    resumes = replace(
        resumption,
        run=replace(resumption.run, checksum=checksum_of(run)),
        workers=tuple(found for worker in workers if (found := worker.kept(resumption.positions)) is not None),
    )
    with filtered_output(request.streams) as streams:
        planned = report.planned(resumes=resumes, attempts=request.attempts)
        return execute(planned, request.adapt(report.available_runtime), streams, request.limits, begun)


def with_training(run: RunDir, record: Record) -> tuple[RunDir, Record]:
    """The run to resume: instead of one that ended before its training began, the run which that one resumes."""
    while not run.image.exists() and (resumed := record.origin.resumes) is not None:
        before = RunDir(run.path.parent / resumed.id)
        # A received record may name any path. By its checksum, it is the run that the record means.
        if (
            Path(resumed.id).name != resumed.id
            or resumed.id in ("", "..")
            or not before.record.is_file()
            or checksum_of(before) != resumed.checksum
        ):
            break
        log(f"the run {record.id} ended before its training began; resuming {resumed.id} instead, as that one did")
        run, record = before, before.read()
    return run, record


def _ended(run: RunDir, options: ResumeOptions) -> Record:
    """The record of a run whose end is proven, or declared. Raises InputError for one that may still write."""
    record = run.read()
    if read_record(run.record).finalized:
        return record
    state = run.liveness(record)
    if state == HELD:
        raise InputError(
            f"the run {record.id} cannot be resumed: it ended, but a process that its script started still runs;"
            " end that one"
        )
    if state == DEAD and not options.ended:
        _require_own_staging(run, record)
    if state == DEAD or (state == UNKNOWN and options.ended):
        adopted = adopt(run, read_record(run.record))
        if adopted.finalized:
            return adopted
        record = replace(adopted, outcome=record.outcome)
    if state == UNKNOWN and options.ended:
        return interrupted(record, "declared ended by `samebits resume --ended`, from where it could not be seen")
    return record


def _require_own_staging(run: RunDir, record: Record) -> None:
    """Raise InputError where a run that was not started on this machine holds a container's folder to take over."""
    if has_staging(run) and not _started_here(record.host):
        raise InputError(
            f"the run {record.id} cannot be resumed: it was not started on this machine, and a container's files are"
            f" still in {run.staging}; add --ended if the run is yours"
        )


def _started_here(host: Host | None) -> bool:
    here = Host.this()
    if host is None or here is None:
        return False
    return host.launcher.boot == here.launcher.boot or (host.machine == here.machine and host.machine is not None)


def _preflight_exactly(run: RunDir, request: RerunRequest) -> PreflightReport:
    """Check that this host continues the run bit by bit; raises InputError with every reason why not."""
    report = preflight(
        run, data=request.data, runs=request.runs, needs_result=False, software=SoftwareOptions.of(request)
    )
    reasons = report.reasons(BITWISE)
    if reasons:
        raise InputError(f"cannot resume exactly here: {'; '.join(reasons)}")
    report.spec.determinism.check(os.environ, "your environment")
    return report


def plan_resumption(run: RunDir, record: Record, checkpoints: CheckpointAudit, *, trust: bool = False) -> Resumption:
    """Where to begin, and what to reproduce before new training: with `trust`, nothing."""
    last = checkpoints.furthest(log)
    # From here on the run can be resumed; without a usable checkpoint it starts over.
    start = last if trust or last is None else _start(run, checkpoints, last)
    arithmetic = record.environment.arithmetic
    return Resumption(
        run=ResumedRun(
            id=record.id,
            checksum="",
            checkpoint=start,
            replays=None if trust else last,
            trusted=trust and last is not None,
            fingerprint=None if arithmetic is None else arithmetic.digest,
        ),
        # The new run begins with these lines, and must reproduce those after the checkpoint exactly.
        ledger=run.ledger,
        size=checkpoints.ledger.size,
        store=run.checkpoints,
        positions=checkpoints.taken_over(start, last, keep=record.retention.keep),
    )


def usable_workers(run: RunDir, record: Record, *, trust: bool) -> tuple[WorkerAudit, ...]:
    """What the other workers kept; nothing of a run from elsewhere, as only the chief's ledger is recorded."""
    found = audit_workers(run, record)
    if not found or trust or was_begun_here(run):
        return found
    log(
        "this run was not begun here, and its record does not confirm what workers beside the chief kept: beginning at"
        " the start (if the run is yours, --trust-checkpoint skips this proof)"
    )
    return tuple(replace(worker, found=None) for worker in found)


def _start(run: RunDir, checkpoints: CheckpointAudit, last: Position) -> Position | None:
    """The last checkpoint before the last. Of a run that came from elsewhere, one that the ledger confirms.

    Who sends a run could have changed both checkpoints, so that the one leads to the other.
    """
    found = start = checkpoints.furthest(log, before=last)
    own = was_begun_here(run)
    while start is not None and not (own or checkpoints.confirmed(start)):
        start = checkpoints.furthest(lambda _: None, before=start)
    if start != found:
        log(
            f"this run was not begun here, and its ledger does not confirm the checkpoint in {found}: beginning at an"
            " earlier one (if the run is yours, --trust-checkpoint skips this proof)"
        )
    return start
