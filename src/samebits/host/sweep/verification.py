"""Verify a sweep: are its runs and its summary as they were written, and does each run, or a sample, repeat?"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits import __version__
from samebits.core.errors import InputError, RecordError
from samebits.core.recipe import Recipe
from samebits.core.record import Record
from samebits.core.run_dir import RunDir, claim
from samebits.host.compare.verdict import (
    DIFFERENT,
    EQUIVALENT,
    IDENTICAL,
    NOT_COMPARABLE,
    Verdict,
    not_comparable,
)
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.verify import Verification, VerifyOptions, verify
from samebits.host.runs.registry import checksum_of
from samebits.host.runs.verification_file import complete_verification, write_verification
from samebits.host.sweep.members import Member
from samebits.host.sweep.sweep_file import (
    Sweep,
    SweepDir,
    SweepRun,
    alike_of,
    digest_of,
    groups_of,
    require_finalized,
)

_WORST_FIRST = (DIFFERENT, NOT_COMPARABLE, EQUIVALENT)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepVerifyOptions:
    """How to judge each run; `sample` of them, drawn with `seed`, are trained again (None: all)."""

    each: VerifyOptions = field(default_factory=VerifyOptions)
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sample is not None and self.sample < 1:
            raise InputError(f"--sample is a number of runs from 1, not {self.sample}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepVerification:
    """The outcome: `judged` holds the verification of each run that was trained again; `kept` is its file."""

    folder: SweepDir
    sweep: Sweep
    options: SweepVerifyOptions
    verdict: Verdict
    judged: tuple[tuple[SweepRun, Verification], ...] = ()
    kept: Path | None = None

    @property
    def line(self) -> str:
        """The verdict, and the share of the sweep that it covers."""
        if not self.judged:
            return self.verdict.kind
        alike = sum(found.verdict.kind == self.verdict.kind for _, found in self.judged)
        total = len(self.sweep.runs) - len(self.sweep.failed)
        drawn = f", drawn with seed {self.options.seed}" if len(self.judged) < total else ""
        failed = f"; {len(self.sweep.failed)} failed runs have no result" if self.sweep.failed else ""
        return f"{self.verdict.kind}: {alike} of {total} runs{drawn}{failed}"

    def to_dict(self) -> dict[str, Any]:
        """The form in `verification.json` and of `--json`."""
        runs = [
            {
                "id": run.id,
                "by": None if found.by is None else found.by.path.name,
                "verdict": found.verdict.kind,
                "reasons": list(found.verdict.reasons),
            }
            for run, found in self.judged
        ]
        return complete_verification(
            {
                "samebits": __version__,
                "verified": {"id": self.sweep.id, "seal": self.sweep.checksum, "digest": str(self.sweep.digest)},
                "by": None,
                "goal": self.verdict.level,
                "tolerance": self.options.each.tolerance.to_dict(),
                "verdict": self.verdict.kind,
                "reasons": list(self.verdict.reasons),
                "sweep": runs,
                "of": len(self.sweep.runs),
                "failed": [str(run.member) for run in self.sweep.failed],
                "sample": None if self.options.sample is None else {"seed": self.options.seed},
            }
        )


def verify_sweep(
    folder: SweepDir,
    request: RerunRequest,
    options: SweepVerifyOptions,
    report: Callable[[str], object] = print,
) -> SweepVerification:
    """Check the summary against the records, then verify each run of the sweep, or a sample; `report` gets verdicts.

    Nothing is trained where the summary is not that of its runs.
    """
    sweep = require_finalized(folder)
    runs = [run for run in sweep.runs if run.finished]
    level = options.each.level or "as recorded"
    if reasons := _problems(folder, sweep):
        return SweepVerification(folder=folder, sweep=sweep, options=options, verdict=not_comparable(level, reasons))
    if not runs:
        verdict = not_comparable(level, ["no run of the sweep has a result"])
        return SweepVerification(folder=folder, sweep=sweep, options=options, verdict=verdict)
    judged = []
    for run in _drawn(runs, options):
        found = verify(RunDir(folder.runs / run.id), request, options.each)
        report(f"{run.member}: {found.verdict.line}")
        judged.append((run, found))
    return _keep(
        SweepVerification(
            folder=folder, sweep=sweep, options=options, verdict=_conclude(judged, level), judged=tuple(judged)
        )
    )


def _drawn(runs: list[SweepRun], options: SweepVerifyOptions) -> list[SweepRun]:
    if options.sample is None or options.sample >= len(runs):
        return runs
    drawn = random.Random(options.seed).sample(range(len(runs)), options.sample)  # noqa: S311  no secret
    return [runs[index] for index in sorted(drawn)]


def _problems(folder: SweepDir, sweep: Sweep) -> list[str]:
    """What of the summary is not as its runs have it."""
    problems, records = _named_twice(sweep), {}
    for run in sweep.runs:
        try:
            records[run.id] = _record_of(folder, sweep, run)
        except RecordError as error:
            problems.append(f"{run.member}: {error}")
    if problems:
        return problems
    facts = (
        ("digest", sweep.digest, digest_of(sweep.runs)),
        ("statistics", sweep.groups, groups_of(sweep.runs, records)),
        ("list of equal results", sweep.alike, alike_of(sweep.runs)),
    )
    return [f"the sweep's {name} is not that of its runs" for name, found, wanted in facts if found != wanted]


def _named_twice(sweep: Sweep) -> list[str]:
    """Whatever would count twice in a mean."""
    names = Counter(name for run in sweep.runs for name in (f"the run {run.id}", f"the member {run.member}"))
    return [f"the sweep names {name} twice" for name, count in names.items() if count > 1]


def _record_of(folder: SweepDir, sweep: Sweep, run: SweepRun) -> Record:
    """The record of a run, which must be the one that was summarized, and that of its member; raises RecordError."""
    found = RunDir(folder.runs / run.id)
    record = found.read()
    given = (checksum_of(found), record.recipe.digest, record.outcome.state, record.result_digest)
    if given != (run.checksum, run.recipe, run.outcome, run.result):
        raise RecordError(f"the record of {run.id} is not the one that was summarized")
    if not _is_of_member(record.recipe, sweep, run.member):
        raise RecordError(f"the run {run.id} has another seed or other arguments than this member")
    return record


def _is_of_member(recipe: Recipe, sweep: Sweep, member: Member) -> bool:
    """Whether a recipe has a member's seed, and the sweep's arguments with the member's after them."""
    shared = len(sweep.arguments)
    given, own = recipe.code.arguments[:shared], recipe.code.arguments[shared:]
    # The file keeps the grid sorted by name, not in the order of the command line.
    return (recipe.seed, given, sorted(own)) == (member.seed, sweep.arguments, sorted(member.arguments))


def _conclude(judged: list[tuple[SweepRun, Verification]], level: str) -> Verdict:
    """The verdict on the sweep: the worst of its runs."""
    kinds = {found.verdict.kind for _, found in judged}
    kind = next((kind for kind in _WORST_FIRST if kind in kinds), IDENTICAL)
    reasons = tuple(f"{run.member}: {reason}" for run, found in judged for reason in found.verdict.reasons)
    levels = {found.verdict.level for _, found in judged}
    return Verdict(kind=kind, level=levels.pop() if len(levels) == 1 else level, reasons=reasons)


def _keep(found: SweepVerification) -> SweepVerification:
    """Write the verification to a folder of its own, beside the sweep, which never changes."""
    kept = claim(found.folder.path.absolute().parent, f"{found.sweep.id}-verification").verification
    write_verification(kept, found.to_dict())
    return SweepVerification(
        folder=found.folder,
        sweep=found.sweep,
        options=found.options,
        verdict=found.verdict,
        judged=found.judged,
        kept=kept,
    )
