"""`samebits resume`: a run that did not finish goes on, to the bits that it would have reached uninterrupted.

A sealed record is never changed: what goes on is a new run with the same recipe, which begins with the ledger and the
checkpoints of the one that it resumes, and names it by its seal.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from samebits.core.errors import InputError
from samebits.core.origin import ResumedRun
from samebits.core.record import read_record
from samebits.core.run_config import BITWISE
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import Resumption
from samebits.host.audit.checkpoint_audit import CheckpointAudit, why_not_resumable
from samebits.host.console import log
from samebits.host.launch.train import execute, finalize_unfinished
from samebits.host.rerun.preflight import preflight
from samebits.host.runs.registry import checksum_of
from samebits.host.subprocesses import OURS, Streams


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked for: where the new run is kept, and where the data is now (None: where it was)."""

    runs: Path
    data: Path | None = None
    offline: bool = False
    streams: Streams = OURS


def resume(run: RunDir, request: Request) -> tuple[RunDir, int]:
    """Go on from a run's furthest whole checkpoint; returns the new run's folder and exit status, as `train` does.

    Raises InputError where it cannot be resumed, or not exactly here; RecordError where its ledger is not whole.
    """
    record = run.read()
    why = why_not_resumable(run, record)
    if why is not None:
        raise InputError(f"the run {record.id} cannot be resumed: {why}")
    checkpoints = CheckpointAudit.of(run, record)
    report = preflight(
        run, data=request.data, runs=request.runs, rebuild=True, offline=request.offline, needs_result=False
    )
    reasons = report.reasons(BITWISE)
    if reasons:
        raise InputError(f"cannot resume exactly here: {'; '.join(reasons)}")
    report.spec.determinism.check(os.environ, "your environment")
    place = checkpoints.furthest(log)
    log(f"resuming {record.id} " + ("from the beginning: it has no checkpoint" if place is None else f"from {place}"))
    if not read_record(run.record).finalized:
        finalize_unfinished(run, lambda _: run.read())
    resumes = Resumption(
        run=ResumedRun(id=record.id, checksum=checksum_of(run), checkpoint=place),
        ledger=run.ledger,
        size=checkpoints.ledger.size,
        store=run.checkpoints,
        positions=checkpoints.taken_over(place, record.retention.keep),
    )
    return execute(report.planned(resumes=resumes), report.at_hand, request.streams)
