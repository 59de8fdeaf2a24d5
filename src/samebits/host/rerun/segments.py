"""`samebits verify --segments`: verify a run in parts, each from one of its checkpoints to the next, in parallel.

Consecutive segments form a batch. A batch is one run that resumes the recorded one and ends where its last segment
does. Its ledger and its checkpoints give a verdict on each segment. After a segment that differs, nothing is known of
the next: that one is executed again, from its own checkpoint.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from samebits.core.checkpoint_store import Position
from samebits.core.errors import InputError, RecordError, pluralize, shorten
from samebits.core.jsonio import reading
from samebits.core.origin import ResumedRun
from samebits.core.record import Record
from samebits.core.retention import ALL, LAST
from samebits.core.run_config import BITWISE
from samebits.core.run_dir import RunDir, claim, prepare_runs
from samebits.core.run_setup import Resumption
from samebits.core.workers import describe_workers
from samebits.host.audit.checkpoint_audit import CheckpointAudit, refusals
from samebits.host.compare.ledger_diff import first_divergence
from samebits.host.compare.run_diff import OUTPUTS, diff
from samebits.host.compare.verdict import DIFFERENT, IDENTICAL, NOT_COMPARABLE, Tolerance, judge_runs, not_comparable
from samebits.host.console import log
from samebits.host.rerun.preflight import PreflightReport, preflight
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.segment_plan import (
    Segment,
    SegmentBatch,
    draw_sample,
    find_segments,
    split_where_dropped,
)
from samebits.host.rerun.segment_verdict import (
    SegmentOptions,
    SegmentVerdict,
    SegmentVerification,
    conclude,
    diverged,
    report_batch,
)
from samebits.host.rerun.segment_worker import SegmentJob, in_processes, run_job
from samebits.host.rerun.software import SoftwareOptions
from samebits.host.rerun.state_diff import compare_states
from samebits.host.runs.registry import checksum_of
from samebits.host.runs.verification_file import write_verification

_EXECUTOR_POLL_SECONDS = 0.1


class Answer(Protocol):
    """What an executor returns for a call: a future."""

    def done(self) -> bool:
        """Whether the call has ended."""

    def result(self) -> Any:
        """What the call returned; raises what it raised."""


class Executor(Protocol):
    """Executes calls, as `concurrent.futures` does; a cluster, if all nodes see the folder of runs."""

    def submit(self, function: Callable[[SegmentJob], Path], job: SegmentJob, /) -> Answer:
        """Call `function(job)`, both of which can be pickled, at some later time."""


def verify_segments(
    run: RunDir,
    request: RerunRequest,
    options: SegmentOptions,
    *,
    executor: Executor,
    scratch: Path,
    report: Callable[[str], object] = print,
) -> SegmentVerification:
    """Execute segments of `run` again and judge each; `report` gets a line for one that differs, at once.

    `scratch` is an empty folder for the new runs. Raises InputError if the run has no segments.
    """
    record = run.read()
    _check_has_segments(run, record)
    checks = preflight(run, data=request.data, runs=request.runs, software=SoftwareOptions.of(request))
    # Segments are compared by their bits, whatever the level of the run.
    if reasons := checks.reasons(BITWISE):
        verdict = not_comparable(BITWISE, reasons)
        return SegmentVerification(verified=run, verdict=verdict, options=options, rows=checks.rows)
    # Once, before the workers start: they would all prepare it at the same time.
    checks.available_runtime.prepare()
    checkpoints = CheckpointAudit.of(run, record)
    segments = _find_segments(record, checkpoints)
    # Few large batches: every batch starts TensorFlow once.
    batches = draw_sample(segments, jobs=options.jobs, sample=options.sample, seed=options.seed)
    batches = split_where_dropped(batches, partial(_is_kept, record, checkpoints))
    judged = _Verifier(run, record, checks, checkpoints, request, scratch).judge_all(batches, executor, report)
    found = SegmentVerification(
        verified=run,
        verdict=conclude(judged),
        options=options,
        rows=checks.rows,
        total=len(segments),
        judged=judged,
    )
    return replace(found, kept=_write_result(found, record, request.runs))


def verify_in_processes(
    run: RunDir, request: RerunRequest, options: SegmentOptions, *, report: Callable[[str], object] = print
) -> SegmentVerification:
    """Verify segments in processes of this machine."""
    with scratch_beside(request) as scratch, in_processes(options.jobs) as executor:
        return verify_segments(run, request, options, executor=executor, scratch=scratch, report=report)


@contextmanager
def scratch_beside(request: RerunRequest) -> Iterator[Path]:
    """A hidden folder beside the runs, where copies of checkpoints may share their blocks."""
    prepare_runs(request.runs)
    with tempfile.TemporaryDirectory(prefix=".segments-", dir=request.runs) as scratch:
        yield Path(scratch)


def _check_has_segments(run: RunDir, record: Record) -> None:
    if record.recipe.world_size > 1:
        raise InputError(f"{describe_workers(record.recipe.world_size)}, and so no segments; verify it whole")
    if not run.checkpoints.positions():
        raise InputError(f"the run {record.id} keeps no checkpoints, and so has no segments; train with --keep all")
    if reasons := refusals(run, record):
        raise InputError(f"the run {record.id} cannot be verified in segments: {'; '.join(reasons)}; verify it whole")


def _find_segments(record: Record, checkpoints: CheckpointAudit) -> list[Segment]:
    segments = find_segments(checkpoints)
    if record.retention.keep != ALL:
        number = pluralize(len(segments), "segment")
        log(f"the run keeps few checkpoints (keep {record.retention.keep}): {number}; see --keep all")
    return segments


def _is_kept(record: Record, checkpoints: CheckpointAudit, position: Position) -> bool:
    """Whether each run of this policy that trains past a position keeps its checkpoint."""
    last_of_phase = max(found.order for found in checkpoints.good if found.phase == position.phase)
    return record.retention.retains(position.epoch, position.step) or position.order == last_of_phase


def _write_result(found: SegmentVerification, record: Record, runs: Path) -> Path:
    """Write the verification to a folder of its own: no single run verified all segments."""
    prepare_runs(runs)
    folder = claim(runs, f"{record.id}-segments")
    write_verification(folder.verification, found.to_dict())
    return folder.verification


@dataclass(frozen=True, slots=True)
class _Verifier:
    """Submits batches and judges the runs that come back."""

    run: RunDir
    record: Record
    checks: PreflightReport
    checkpoints: CheckpointAudit
    request: RerunRequest
    scratch: Path

    def judge_all(
        self, batches: Sequence[SegmentBatch], executor: Executor, report: Callable[[str], object]
    ) -> tuple[SegmentVerdict, ...]:
        """A verdict on every segment of the batches, in order."""
        verdicts: list[SegmentVerdict] = []
        pending = {executor.submit(run_job, self._job(batch)): batch for batch in batches}
        while pending:
            ended = [answer for answer in pending if answer.done()]
            for answer in ended:
                batch = pending.pop(answer)
                found = list(self._judge(batch, RunDir(answer.result())))
                verdicts += found
                report_batch(found, report)
                # The segments after one that differs have no verdict yet.
                if rest := batch[len(found) :]:
                    pending[executor.submit(run_job, self._job(rest))] = rest
            if not ended:
                time.sleep(_EXECUTOR_POLL_SECONDS)
        return tuple(sorted(verdicts, key=lambda item: item.segment.number))

    def _job(self, batch: SegmentBatch) -> SegmentJob:
        """The run that executes a batch. Paths are absolute, as an executor may work in another folder."""
        spec = self.checks.spec
        spec = replace(
            spec,
            script=spec.script.absolute(),
            data=None if spec.data is None else spec.data.absolute(),
            keep=self.record.retention.keep,  # the checkpoints at its end are compared
            checkpoint_every=None,
            runs=Path(tempfile.mkdtemp(dir=self.scratch)).absolute(),
        )
        planned = replace(self.checks, spec=spec).planned(resumes=self._resumption(batch))
        return SegmentJob(
            run=self.run.path.absolute(), planned=planned, offline=self.request.offline, trusted=self.request.trusted
        )

    def _resumption(self, batch: SegmentBatch) -> Resumption:
        begin, end = batch[0].begin, batch[-1].end
        return Resumption(
            run=ResumedRun(id=self.record.id, checksum=checksum_of(self.run), checkpoint=begin, until=end),
            ledger=self.run.ledger.absolute(),
            size=self.checkpoints.size(begin),
            store=replace(self.run.checkpoints, folder=self.run.checkpoints.folder.absolute()),
            positions=self.checkpoints.taken_over(begin, keep=LAST),
        )

    def _judge(self, batch: SegmentBatch, again: RunDir) -> Iterator[SegmentVerdict]:
        """A verdict on each segment, up to the first that differs."""
        divergence = first_divergence((self.run, self.record), (again, again.read()))
        for segment in batch:
            # A segment before the divergence has an identical ledger, and still needs a state or a result to compare.
            if divergence is not None and segment.last >= divergence.number:
                verdict = diverged(segment, divergence, again.read())
            elif segment.end is None:
                verdict = self._judge_result(segment, again)
            else:
                verdict = self._judge_state(segment, segment.end, again)
            yield verdict
            if verdict.kind == DIFFERENT:
                return

    def _judge_state(self, segment: Segment, end: Position, again: RunDir) -> SegmentVerdict:
        """The ledgers agree up to a checkpoint: compare its state, from which the next segment begins."""
        # The ledger holds digests of the models. The checkpoint also holds generators and positions in the data.
        path = again.checkpoints.path(end)
        try:
            reached = again.checkpoints.read(end)
            with reading(path):
                states = compare_states(self.checkpoints.good[end], reached)
        except RecordError as error:
            reason = f"the state at its end cannot be compared: {error}"
            return SegmentVerdict(segment=segment, kind=NOT_COMPARABLE, reason=reason)
        if states.training:
            reason = f"the state at its end: {shorten(states.training, 3)}"
            return SegmentVerdict(segment=segment, kind=DIFFERENT, reason=reason)
        return SegmentVerdict(segment=segment, kind=IDENTICAL, own=states.own)

    def _judge_result(self, segment: Segment, again: RunDir) -> SegmentVerdict:
        """The ledgers agree up to the end of the run: compare the results."""
        verdict = judge_runs(self.record, again.read(), BITWISE, Tolerance())
        if verdict.kind == IDENTICAL:
            return SegmentVerdict(segment=segment, kind=IDENTICAL)
        # An output file or a model outside of fit is in no ledger line, so the result may differ here.
        names = [f"{item.kind} {item.name}" for item in diff(self.run, again) if item.side == OUTPUTS]
        reasons = [*verdict.reasons, *([shorten(names, 3)] if names and verdict.kind == DIFFERENT else [])]
        return SegmentVerdict(segment=segment, kind=verdict.kind, reason=": ".join(reasons))
