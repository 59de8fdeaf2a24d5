"""`samebits verify --segments`: a run verified in parts, each from one of its checkpoints to the next, side by side.

Consecutive segments are executed in one go, as a run that resumes the recorded one and ends where the last one does.
Its ledger tells of each of them, and its checkpoints whether one ends in the state from which the next begins. Behind a
segment that differs nothing can be said of the next: it is executed again, from its own checkpoint.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from samebits import __version__
from samebits.core.checkpoint_store import ALL, LAST, Position
from samebits.core.errors import InputError, RecordError, pluralize, shorten
from samebits.core.jsonio import reading
from samebits.core.origin import ResumedRun
from samebits.core.record import Record
from samebits.core.run_config import BITWISE
from samebits.core.run_dir import RunDir, claim, prepare_runs
from samebits.core.run_setup import Resumption
from samebits.host.audit.checkpoint_audit import CheckpointAudit, refusals
from samebits.host.compare.ledger_diff import Divergence, first_divergence
from samebits.host.compare.run_diff import OUTPUTS, diff
from samebits.host.compare.verdict import (
    DIFFERENT,
    IDENTICAL,
    NOT_COMPARABLE,
    Tolerance,
    Verdict,
    judge_runs,
    not_comparable,
)
from samebits.host.console import log
from samebits.host.rerun.hardware import PreflightCheck
from samebits.host.rerun.preflight import PreflightReport, preflight
from samebits.host.rerun.segment_plan import Segment, SegmentBatch, draw_sample, find_segments
from samebits.host.rerun.segment_worker import SegmentJob, in_processes, run_job
from samebits.host.rerun.state_diff import compare_states
from samebits.host.rerun.verify import named
from samebits.host.runs.registry import checksum_of
from samebits.host.runs.verification_file import complete_verification, write_verification

_QUIET_SECONDS = 0.1  # seconds between two looks at what is being executed


class Answer(Protocol):
    """What an executor gives for a call: a future."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> Any:
        """What it returned; raises what it raised."""


class Executor(Protocol):
    """Whatever carries calls out, as `concurrent.futures` does; a cluster, where all nodes see the folder of runs."""

    def submit(self, function: Callable[[SegmentJob], Path], work: SegmentJob, /) -> Answer:
        """Call `function(work)`, both of which can be pickled, some time from now on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked for: `sample` so many segments, drawn with `seed` (None: all), `jobs` of them at a time."""

    runs: Path
    data: Path | None = None
    offline: bool = False
    jobs: int = 1
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise InputError(f"--jobs is a number from 1, not {self.jobs}")
        if self.sample is not None and self.sample < 1:
            raise InputError(f"--sample is a number of segments from 1, not {self.sample}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentVerdict:
    """What came of one segment: `word` is identical, different or not comparable, and `reason` says where and what.

    `own` names what differs at the end of one that is identical, and is the script's own.
    """

    segment: Segment
    word: str
    reason: str = ""
    own: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        begin, end = self.segment.begin, self.segment.end
        return {
            "number": self.segment.number,
            "where": self.segment.where,
            "begin": None if begin is None else begin.name,
            "end": None if end is None else end.name,
            "verdict": self.word,
            "reason": self.reason,
            "own": list(self.own),
        }

    def __str__(self) -> str:
        return f"{self.word}: {self.segment}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentVerification:
    """What came of a verification in segments: `judged` of `total` segments, in their order."""

    verified: RunDir
    verdict: Verdict
    request: Request
    rows: tuple[PreflightCheck, ...] = ()
    total: int = 0
    judged: tuple[SegmentVerdict, ...] = ()
    kept: Path | None = None

    @property
    def sampled(self) -> bool:
        """Whether only some were drawn."""
        return self.request.sample is not None and len(self.judged) < self.total

    @property
    def line(self) -> str:
        """The verdict, and what share of the run it covers."""
        if not self.judged:
            return self.verdict.word
        found = [item for item in self.judged if item.word == self.verdict.word]
        drawn = f", drawn with seed {self.request.seed}" if self.sampled else ""
        if self.verdict.word != IDENTICAL:
            of = f"{len(self.judged)} segments of {self.total}" if self.sampled else f"{self.total} segments"
            return f"{found[0]} ({len(found)} of {of}{drawn})"
        share = f"{len(found)} of {self.total} segments{drawn}"
        own = list(dict.fromkeys(name for item in found for name in item.own))
        but = f"; but for what the script itself keeps: {shorten(own, 3)}" if own else ""
        return f"{IDENTICAL} in {share}{but}" if self.sampled else f"{IDENTICAL} ({share}{but})"

    def to_dict(self) -> dict[str, Any]:
        """As `verification.json` and `--json` hold it; `by` is None, as no single run stands against the recorded."""
        request = self.request
        drawn = {"segments": len(self.judged), "seed": request.seed} if self.sampled else None
        return complete_verification(
            {
                "samebits": __version__,
                "verified": named(self.verified),
                "by": None,
                "goal": BITWISE,
                "tolerance": Tolerance().to_dict(),
                "verdict": self.verdict.word,
                "reasons": list(self.verdict.reasons),
                "preflight": [row.to_dict() for row in self.rows],
                "differences": [],
                "location": None,
                "segments": [item.to_dict() for item in self.judged],
                "of": self.total,
                "sample": drawn,
            }
        )


def verify_segments(
    run: RunDir, request: Request, *, executor: Executor, scratch: Path, tell: Callable[[str], object] = print
) -> SegmentVerification:
    """Execute segments of `run` again and judge each; `tell` is given a line for one that differs, at once.

    `scratch` is an empty folder for the runs that do it. Raises InputError where the run has no segments.
    """
    record = run.read()
    _check_has_segments(run, record)
    report = preflight(run, data=request.data, runs=request.runs, rebuild=True, offline=request.offline)
    reasons = report.reasons(BITWISE)
    if reasons:
        return SegmentVerification(
            verified=run, verdict=not_comparable(BITWISE, reasons), request=request, rows=report.rows
        )
    report.at_hand.prepare()
    checkpoints = CheckpointAudit.of(run, record)
    segments = find_segments(checkpoints)
    if record.retention.keep != ALL:
        number = pluralize(len(segments), "segment")
        log(f"the run keeps few checkpoints (keep {record.retention.keep}): {number}; see --keep all")
    verifier = _Verifier(run, record, report, checkpoints, request, scratch)
    judged = verifier.judge_all(
        draw_sample(segments, jobs=request.jobs, sample=request.sample, seed=request.seed), executor, tell
    )
    words = {item.word for item in judged}
    word = next((word for word in (DIFFERENT, NOT_COMPARABLE) if word in words), IDENTICAL)
    verdict = Verdict(
        word=word, goal=BITWISE, reasons=tuple(f"{item.segment}: {item.reason}" for item in judged if item.reason)
    )
    found = SegmentVerification(
        verified=run, verdict=verdict, request=request, rows=report.rows, total=len(segments), judged=judged
    )
    prepare_runs(request.runs)
    kept = claim(request.runs, f"{record.id}-segments")
    write_verification(kept.verification, found.to_dict())
    return replace(found, kept=kept.verification)


def verify_in_processes(run: RunDir, request: Request, *, tell: Callable[[str], object] = print) -> SegmentVerification:
    """The same by processes of this machine, in a hidden folder beside the runs, where checkpoints need no copies."""
    prepare_runs(request.runs)
    with (
        tempfile.TemporaryDirectory(prefix=".segments-", dir=request.runs) as scratch,
        in_processes(request.jobs) as executor,
    ):
        return verify_segments(run, request, executor=executor, scratch=Path(scratch), tell=tell)


def _check_has_segments(run: RunDir, record: Record) -> None:
    if not run.checkpoints.positions():
        raise InputError(f"the run {record.id} keeps no checkpoints, and so has no segments; train with --keep all")
    if reasons := refusals(run, record):
        raise InputError(f"the run {record.id} cannot be verified in segments: {'; '.join(reasons)}; verify it whole")


@dataclass(frozen=True, slots=True)
class _Verifier:
    """Sends stretches out and judges what comes back."""

    run: RunDir
    record: Record
    report: PreflightReport
    checkpoints: CheckpointAudit
    request: Request
    scratch: Path

    def judge_all(
        self, stretches: Sequence[SegmentBatch], executor: Executor, tell: Callable[[str], object]
    ) -> tuple[SegmentVerdict, ...]:
        """Every segment of the stretches with its verdict, in their order."""
        judged: list[SegmentVerdict] = []
        pending = {executor.submit(run_job, self._work(stretch)): stretch for stretch in stretches}
        while pending:
            ended = [answer for answer in pending if answer.done()]
            for answer in ended:
                stretch = pending.pop(answer)
                found = list(self._judged(stretch, RunDir(answer.result())))
                judged += found
                _tell(found, tell)
                if rest := stretch[len(found) :]:
                    pending[executor.submit(run_job, self._work(rest))] = rest
            if not ended:
                time.sleep(_QUIET_SECONDS)
        return tuple(sorted(judged, key=lambda item: item.segment.number))

    def _work(self, stretch: SegmentBatch) -> SegmentJob:
        begin, end = stretch[0].begin, stretch[-1].end
        resumes = Resumption(
            run=ResumedRun(id=self.record.id, checksum=checksum_of(self.run), checkpoint=begin, until=end),
            ledger=self.run.ledger.absolute(),
            size=self.checkpoints.size(begin),
            store=replace(self.run.checkpoints, folder=self.run.checkpoints.folder.absolute()),
            positions=self.checkpoints.taken_over(begin, LAST),
        )
        runs = Path(tempfile.mkdtemp(dir=self.scratch)).absolute()
        spec = self.report.spec
        spec = replace(
            spec,
            script=spec.script.absolute(),
            data=None if spec.data is None else spec.data.absolute(),
            keep=self.record.retention.keep,  # to compare what it ends in
            checkpoint_every=None,
            runs=runs,
        )
        planned = replace(self.report, spec=spec).planned(resumes=resumes)
        return SegmentJob(run=self.run.path.absolute(), planned=planned, offline=self.request.offline)

    def _judged(self, stretch: SegmentBatch, again: RunDir) -> Iterator[SegmentVerdict]:
        """Of each segment up to the first that differs; of all where the rest cannot be known."""
        parting = first_divergence((self.run, self.record), (again, again.read()))
        for segment in stretch:
            if parting is not None and segment.last >= parting.number:
                judged = _parted(segment, parting, again.read())
            elif segment.end is None:
                judged = self._at_the_end(segment, again)
            else:
                judged = self._at_its_end(segment, segment.end, again)
            yield judged
            if judged.word == DIFFERENT:
                return

    def _at_its_end(self, segment: Segment, end: Position, again: RunDir) -> SegmentVerdict:
        """The lines agree up to a checkpoint; whether the next segment begins in the state that was reached."""
        path = again.checkpoints.path(end)
        try:
            reached = again.checkpoints.read(end)
            with reading(path):
                ends = compare_states(self.checkpoints.good[end], reached)
        except RecordError as error:
            return SegmentVerdict(
                segment=segment, word=NOT_COMPARABLE, reason=f"what it ended in cannot be compared: {error}"
            )
        if ends.training:
            reason = f"the state at its end: {shorten(ends.training, 3)}"
            return SegmentVerdict(segment=segment, word=DIFFERENT, reason=reason)
        return SegmentVerdict(segment=segment, word=IDENTICAL, own=ends.own)

    def _at_the_end(self, segment: Segment, again: RunDir) -> SegmentVerdict:
        """The lines agree up to the end of the run; whether its result does."""
        verdict = judge_runs(self.record, again.read(), BITWISE, Tolerance())
        if verdict.word == IDENTICAL:
            return SegmentVerdict(segment=segment, word=IDENTICAL)
        names = [f"{item.kind} {item.name}" for item in diff(self.run, again) if item.side == OUTPUTS]
        reasons = [*verdict.reasons, *([shorten(names, 3)] if names and verdict.word == DIFFERENT else [])]
        return SegmentVerdict(segment=segment, word=verdict.word, reason=": ".join(reasons))


def _tell(found: Sequence[SegmentVerdict], tell: Callable[[str], object]) -> None:
    """What came of a stretch: one line for all that agree, one for each that does not."""
    same = [item.segment.number for item in found if item.word == IDENTICAL]
    if same:
        log(f"{IDENTICAL}: " + (f"segments {same[0]} to {same[-1]}" if len(same) > 1 else f"segment {same[0]}"))
    for item in found:
        if item.word != IDENTICAL:
            log(str(item))
            tell(str(item))


def _parted(segment: Segment, parting: Divergence, again: Record) -> SegmentVerdict:
    """What is said of a segment that does not end as it was recorded."""
    if parting.other is not None and parting.one is not None:
        names = shorten([name for name, _, _ in parting.differences()], 3)
        return SegmentVerdict(segment=segment, word=DIFFERENT, reason=f"from {parting.where} on: {names}")
    if parting.one is None:
        return SegmentVerdict(segment=segment, word=DIFFERENT, reason=f"{parting.where}: the recorded run ended before")
    outcome = again.outcome
    how = f"{outcome.state}: {outcome.message}" if outcome.message else outcome.state
    by_itself = outcome.exit_status is not None  # else it was killed, or could not train here
    word = DIFFERENT if by_itself else NOT_COMPARABLE
    return SegmentVerdict(segment=segment, word=word, reason=f"it ended before {parting.where}: {how}")


def print_segment_verification(found: SegmentVerification) -> None:
    """For people, on stdout; the last line is the verdict."""
    if found.kept is not None:
        print(f"verification {found.kept}")
    if not found.judged:
        for reason in found.verdict.reasons:
            print(reason)
    print(found.line)
