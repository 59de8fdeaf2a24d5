"""Run a recorded training again, and say whether the same came out; the recorded run stays as it is.

The new run is one like any other, whose record points at the run that it verifies. Beside it lies `verification.json`:
both runs by their seals, the goal, the verdict, and why.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from samebits import __version__
from samebits.core.checkpoint_store import NONE
from samebits.core.errors import SamebitsError, shorten
from samebits.core.origin import VerifiedRun
from samebits.core.record import Record
from samebits.core.run_config import DOCUMENTED, check_level
from samebits.core.run_dir import RunDir
from samebits.core.trace_level import Trace
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.compare.run_diff import INPUTS, Difference, diff, print_difference
from samebits.host.compare.verdict import DIFFERENT, Tolerance, Verdict, check_metrics, judge_runs, not_comparable
from samebits.host.launch.train import execute, execute_silently
from samebits.host.lint.findings import ENTROPY
from samebits.host.rerun.divergence import Location, RunWithRecord, TrainAgain, locate
from samebits.host.rerun.hardware import PreflightCheck
from samebits.host.rerun.preflight import PreflightReport, preflight
from samebits.host.runs.registry import checksum_of
from samebits.host.runs.verification_file import complete_verification, write_verification
from samebits.host.subprocesses import OURS, Streams

_UNRECORDED = "no input differs: what parts the runs is something that no recipe holds (README, Limits)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked for; `data` is where the data is now (None: where it was), `goal` None is the recorded one.

    `streams` takes what the script prints.
    """

    runs: Path
    goal: str | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    data: Path | None = None
    offline: bool = False
    locate: bool = False
    streams: Streams = OURS

    def goal_of(self, record: Record) -> str:
        """The goal to judge at."""
        return check_level(self.goal or record.level)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What came of it; `by` is the run that was judged, None where there is none."""

    verified: RunDir
    verdict: Verdict
    tolerance: Tolerance
    by: RunDir | None = None
    rows: tuple[PreflightCheck, ...] = ()
    differences: tuple[Difference, ...] = ()
    location: Location | None = None

    def to_locate(self, request: Request) -> bool:
        """Whether it was asked for, and there is a place to look for."""
        return (
            request.locate
            and self.verdict.word == DIFFERENT
            and self.by is not None
            and self.by.read().result is not None
        )

    def to_dict(self) -> dict[str, Any]:
        """As `verification.json` and `--json` hold it."""
        body: dict[str, Any] = {
            "samebits": __version__,
            "verified": named(self.verified),
            "by": None if self.by is None else named(self.by),
            "goal": self.verdict.goal,
            "tolerance": self.tolerance.to_dict(),
            "verdict": self.verdict.word,
            "reasons": list(self.verdict.reasons),
            "preflight": [row.to_dict() for row in self.rows],
            "differences": [difference.to_dict() for difference in self.differences],
            "location": None if self.location is None else self.location.to_dict(),
        }
        return complete_verification(body)


def named(run: RunDir) -> dict[str, str | None]:
    """A run as a verification names it."""
    record = run.read()
    result = record.result_digest
    return {
        "id": record.id,
        "seal": checksum_of(run),
        "recipe": str(record.recipe.digest),
        "result": None if result is None else str(result),
    }


def verify(run: RunDir, request: Request) -> Verification:
    """Run `run` again and judge, unless this host cannot tell; writes the verification beside the new run."""
    record = run.read()
    goal = request.goal_of(record)
    check_metrics(record, goal, request.tolerance)
    report = _looked_at(run, request)
    reasons = report.reasons(goal)
    if reasons:
        verdict = not_comparable(goal, reasons)
        return Verification(verified=run, verdict=verdict, tolerance=request.tolerance, rows=report.rows)
    report.spec.determinism.check(os.environ, "your environment")
    again, _ = execute(
        report.planned(VerifiedRun(id=record.id, checksum=checksum_of(run))), report.at_hand, request.streams
    )
    verification = replace(_judged(run, again, request), rows=report.rows)
    write_verification(again.verification, verification.to_dict())  # locating takes longer, and may be stopped
    if not verification.to_locate(request):
        return verification
    verification = replace(verification, location=_located(run, again, (report, report)))
    write_verification(again.verification, verification.to_dict())
    return verification


def verify_against(run: RunDir, other: RunDir, request: Request) -> Verification:
    """Judge a run that there is already; nothing is run, but to locate what differs."""
    record = run.read()
    goal = request.goal_of(record)
    check_metrics(record, goal, request.tolerance)
    reasons = [f"ledger: {text}" for side in (run, other) for text in check_ledger(side.ledger, side.read()).problems]
    if reasons:
        return Verification(verified=run, verdict=not_comparable(goal, reasons), tolerance=request.tolerance, by=other)
    verification = _judged(run, other, request)
    if not verification.to_locate(request):
        return verification
    return replace(verification, location=_located(run, other, (_looked_at(run, request), _looked_at(other, request))))


def _looked_at(run: RunDir, request: Request) -> PreflightReport:
    return preflight(run, data=request.data, runs=request.runs, rebuild=True, offline=request.offline)


def _judged(run: RunDir, other: RunDir, request: Request) -> Verification:
    """The verdict, and all that differs."""
    records = run.read(), other.read()
    verdict = judge_runs(*records, request.goal_of(records[0]), request.tolerance)
    differences = tuple(diff(run, other))
    if verdict.word == DIFFERENT and not any(item.side == INPUTS for item in differences):
        verdict = replace(verdict, reasons=(*verdict.reasons, _unrecorded(*records)))
    return Verification(verified=run, verdict=verdict, tolerance=request.tolerance, by=other, differences=differences)


def _unrecorded(*records: Record) -> str:
    """What may be behind it where the inputs are the same."""
    places = sorted({str(taken) for record in records for taken in record.entropy})
    if not places:
        return _UNRECORDED
    return f"no input differs, and the script {ENTROPY.what}: {shorten(places, 3)}"


def _located(run: RunDir, other: RunDir, reports: tuple[PreflightReport, PreflightReport]) -> Location:
    """The place; where it cannot be looked for, why."""
    reasons = [reason for report in reports for reason in report.reasons(DOCUMENTED)]
    if reasons:
        return Location(note="; ".join(dict.fromkeys(reasons)))
    try:
        return locate(((run, run.read()), (other, other.read())), (_side(reports[0]), _side(reports[1])))
    except SamebitsError as error:
        return Location(note=str(error))


def _side(report: PreflightReport) -> TrainAgain:
    """Trains the recipe of a report again, without a word: its record tells how that went."""

    def train_again(trace: Trace, runs: Path) -> RunWithRecord:
        spec = replace(report.spec, trace=trace, keep=NONE, checkpoint_every=None, runs=runs)
        planned = replace(report, spec=spec).planned()
        run = execute_silently(planned, report.at_hand)
        return run, run.read()

    return train_again


def print_verification(found: Verification) -> None:
    """For people, on stdout; the last line is the verdict."""
    if found.by is not None:
        print(f"run {found.by.path}")
    for difference in found.differences:
        print_difference(difference)
    for line in found.location.lines() if found.location is not None else ():
        print(line)
    for reason in found.verdict.reasons:
        print(reason)
    print(found.verdict.word)
