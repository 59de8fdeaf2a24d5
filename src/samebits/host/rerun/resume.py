"""`samebits resume`: continue a run that did not finish, to the same bits as without the interruption.

A finalized record is never changed. A new run with the same recipe begins with a copy of the old run's ledger and
checkpoints. Its record names the old run by its checksum.
"""

import os

from samebits.core.checkpoint_store import Position
from samebits.core.errors import InputError
from samebits.core.origin import ResumedRun
from samebits.core.record import Record, read_record
from samebits.core.run_config import BITWISE
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import Resumption
from samebits.host.audit.checkpoint_audit import CheckpointAudit, why_not_resumable
from samebits.host.console import log
from samebits.host.launch.train import execute, finalize_unfinished
from samebits.host.rerun.preflight import PreflightReport, preflight
from samebits.host.rerun.request import RerunRequest
from samebits.host.runs.registry import checksum_of


def resume(run: RunDir, request: RerunRequest) -> tuple[RunDir, int]:
    """Resume a run from its last usable checkpoint; returns the new run and its exit status, as `train` does.

    Raises InputError if it cannot be resumed, or not exactly on this host; RecordError if its ledger was edited.
    """
    record = run.read()
    reason = why_not_resumable(run, record)
    if reason is not None:
        raise InputError(f"the run {record.id} cannot be resumed: {reason}")
    checkpoints = CheckpointAudit.of(run, record)
    report = _preflight_exactly(run, request)
    # From here on the run can be resumed; without a usable checkpoint it starts over.
    position = checkpoints.furthest(log)
    start = "the beginning: it has no checkpoint" if position is None else position
    log(f"resuming {record.id} from {start}")
    # A run that was killed has no final record yet; its checksum is part of the new run's record.
    if not read_record(run.record).finalized:
        finalize_unfinished(run, lambda _: run.read())
    resumes = _resumption(run, record, checkpoints, position)
    return execute(report.planned(resumes=resumes), report.available_runtime, request.streams)


def _preflight_exactly(run: RunDir, request: RerunRequest) -> PreflightReport:
    """Check that this host continues the run bit by bit; raises InputError with every reason why not."""
    report = preflight(
        run, data=request.data, runs=request.runs, rebuild=True, offline=request.offline, needs_result=False
    )
    reasons = report.reasons(BITWISE)
    if reasons:
        raise InputError(f"cannot resume exactly here: {'; '.join(reasons)}")
    report.spec.determinism.check(os.environ, "your environment")
    return report


def _resumption(run: RunDir, record: Record, checkpoints: CheckpointAudit, position: Position | None) -> Resumption:
    return Resumption(
        run=ResumedRun(id=record.id, checksum=checksum_of(run), checkpoint=position),
        # The new run begins with these lines, and must reproduce those after the checkpoint exactly.
        ledger=run.ledger,
        size=checkpoints.ledger.size,
        store=run.checkpoints,
        positions=checkpoints.taken_over(position, record.retention.keep),
    )
