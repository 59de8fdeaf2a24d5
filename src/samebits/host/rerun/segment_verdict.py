"""The verdicts on a run's segments, the verdict on the whole, and how both are reported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits import __version__
from samebits.core.errors import InputError, shorten
from samebits.core.record import Record
from samebits.core.run_config import BITWISE
from samebits.core.run_dir import RunDir
from samebits.host.compare.ledger_diff import Divergence
from samebits.host.compare.verdict import DIFFERENT, IDENTICAL, NOT_COMPARABLE, Tolerance, Verdict
from samebits.host.console import log, log_progress, print_line
from samebits.host.rerun.hardware import PreflightCheck
from samebits.host.rerun.segment_plan import Segment
from samebits.host.rerun.verify import identify_run
from samebits.host.runs.verification_file import complete_verification


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentOptions:
    """Which segments to verify: `sample` of them, drawn with `seed` (None: all), `jobs` at a time."""

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
    """The verdict on one segment: `kind` is identical, different or not comparable, `reason` says where and what.

    `own` names state of the script that differs at the end of an identical segment, and that training does not use.
    """

    segment: Segment
    kind: str
    reason: str = ""
    own: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The form in JSON."""
        begin, end = self.segment.begin, self.segment.end
        return {
            "number": self.segment.number,
            "where": self.segment.where,
            "begin": None if begin is None else begin.name,
            "end": None if end is None else end.name,
            "verdict": self.kind,
            "reason": self.reason,
            "own": list(self.own),
        }

    def __str__(self) -> str:
        return f"{self.kind}: {self.segment}" + (f": {self.reason}" if self.reason else "")


def conclude(verdicts: Sequence[SegmentVerdict]) -> Verdict:
    """The verdict on the run: the worst one of its segments."""
    kinds = {item.kind for item in verdicts}
    kind = next((kind for kind in (DIFFERENT, NOT_COMPARABLE) if kind in kinds), IDENTICAL)
    reasons = tuple(f"{item.segment}: {item.reason}" for item in verdicts if item.reason)
    return Verdict(kind=kind, level=BITWISE, reasons=reasons)


def diverged(segment: Segment, divergence: Divergence, again: Record) -> SegmentVerdict:
    """The verdict on a segment in which the ledgers diverge; `again` is the record of the new run."""
    if divergence.other is not None and divergence.one is not None:
        names = shorten([name for name, _, _ in divergence.differences()], 3)
        return SegmentVerdict(segment=segment, kind=DIFFERENT, reason=f"from {divergence.where} on: {names}")
    if divergence.one is None:
        reason = f"{divergence.where}: the recorded run ended before"
        return SegmentVerdict(segment=segment, kind=DIFFERENT, reason=reason)
    outcome = again.outcome
    end = f"{outcome.state}: {outcome.message}" if outcome.message else outcome.state
    # Only a script that ended by itself has an exit status. Any other run was killed, or could not train here.
    kind = NOT_COMPARABLE if outcome.exit_status is None else DIFFERENT
    return SegmentVerdict(segment=segment, kind=kind, reason=f"it ended before {divergence.where}: {end}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentVerification:
    """The outcome of a verification in segments: `judged` of `total` segments, in order; `kept` is its file."""

    verified: RunDir
    verdict: Verdict
    options: SegmentOptions
    rows: tuple[PreflightCheck, ...] = ()
    total: int = 0
    judged: tuple[SegmentVerdict, ...] = ()
    kept: Path | None = None

    @property
    def sampled(self) -> bool:
        """Whether only some segments were drawn."""
        return self.options.sample is not None and len(self.judged) < self.total

    @property
    def line(self) -> str:
        """The verdict, and the share of the run that it covers."""
        if not self.judged:
            return self.verdict.kind
        # A sample is a weaker claim than the whole run, so the line names its share and its seed.
        found = [item for item in self.judged if item.kind == self.verdict.kind]
        drawn = f", drawn with seed {self.options.seed}" if self.sampled else ""
        if self.verdict.kind != IDENTICAL:
            of = f"{len(self.judged)} segments of {self.total}" if self.sampled else f"{self.total} segments"
            return f"{found[0]} ({len(found)} of {of}{drawn})"
        share = f"{len(found)} of {self.total} segments{drawn}"
        # One name per object, not one per segment.
        own = list(dict.fromkeys(name for item in found for name in item.own))
        except_own = f"; except state of the script that training does not use: {shorten(own, 3)}" if own else ""
        return f"{IDENTICAL} in {share}{except_own}" if self.sampled else f"{IDENTICAL} ({share}{except_own})"

    def to_dict(self) -> dict[str, Any]:
        """The form in `verification.json` and of `--json`; `by` is None, as several runs verified this one."""
        drawn = {"segments": len(self.judged), "seed": self.options.seed} if self.sampled else None
        return complete_verification(
            {
                "samebits": __version__,
                "verified": identify_run(self.verified),
                "by": None,
                "goal": BITWISE,
                "tolerance": Tolerance().to_dict(),
                "verdict": self.verdict.kind,
                "reasons": list(self.verdict.reasons),
                "preflight": [row.to_dict() for row in self.rows],
                "differences": [],
                "location": None,
                "segments": [item.to_dict() for item in self.judged],
                "of": self.total,
                "sample": drawn,
            }
        )


def report_batch(verdicts: Sequence[SegmentVerdict], report: Callable[[str], object]) -> None:
    """Log the verdicts on a batch: one line for all identical segments, one for each other, which `report` gets too."""
    same = [item.segment.number for item in verdicts if item.kind == IDENTICAL]
    if same:
        log_progress(
            f"{IDENTICAL}: " + (f"segments {same[0]} to {same[-1]}" if len(same) > 1 else f"segment {same[0]}")
        )
    for item in verdicts:
        if item.kind != IDENTICAL:
            log(str(item))
            report(str(item))


def print_segment_verification(found: SegmentVerification) -> None:
    """Print a verification on stdout; the last line is the verdict."""
    if found.kept is not None:
        print_line(f"verification {found.kept}")
    if not found.judged:
        for reason in found.verdict.reasons:
            print_line(reason)
    print_line(found.line)
