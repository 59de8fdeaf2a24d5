"""`samebits verify`: run a recorded training again and give a verdict. The recorded run is never changed.

The new run is a run like any other; its record names the run that it verifies. Beside it lies `verification.json`:
both runs with their checksums, the level, the verdict and its reasons.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from samebits import __version__
from samebits.core.errors import InputError, SamebitsError, shorten
from samebits.core.origin import VerifiedRun
from samebits.core.record import Record
from samebits.core.retention import NONE, every
from samebits.core.run_config import DOCUMENTED, check_level
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import Resumption
from samebits.core.trace_level import Trace
from samebits.core.workers import describe_workers
from samebits.host.audit.file_audit import audit_files
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.compare.folding import folded
from samebits.host.compare.run_diff import INPUTS, Difference, diff, print_difference
from samebits.host.compare.verdict import DIFFERENT, Tolerance, Verdict, check_metrics, judge_runs, not_comparable
from samebits.host.console import log_progress, print_line
from samebits.host.launch.train import execute, execute_silently
from samebits.host.lint.findings import ENTROPY
from samebits.host.rerun.divergence import DivergenceLocation, RunWithRecord, Side, TrainAgain, locate
from samebits.host.rerun.hardware import PreflightCheck
from samebits.host.rerun.preflight import PreflightReport, preflight
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.script_output import filtered_output
from samebits.host.rerun.software import SoftwareOptions
from samebits.host.runs.registry import checksum_of
from samebits.host.runs.verification_file import complete_verification, write_verification

_LONG_SECONDS = 60.0
_UNRECORDED = 'no input differs: the cause is not recorded in a recipe ("Limits" in the documentation)'


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyOptions:
    """How to judge: at a level (None: the recorded one), within a tolerance; `locate` searches for the divergence."""

    level: str | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    locate: bool = False

    def level_for(self, record: Record) -> str:
        """The level to judge at. Raises InputError if it or the tolerance does not fit the run."""
        level = check_level(self.level or record.level)
        check_metrics(record, level, self.tolerance)
        return level


_DEFAULTS = VerifyOptions()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """The outcome of a verification. `by` is the run that was judged; None if nothing was run."""

    verified: RunDir
    verdict: Verdict
    tolerance: Tolerance
    by: RunDir | None = None
    rows: tuple[PreflightCheck, ...] = ()
    differences: tuple[Difference, ...] = ()
    location: DivergenceLocation | None = None
    trusted_code: bool = False

    @property
    def has_divergence(self) -> bool:
        """Whether two results differ, so that there is a place to locate."""
        return self.verdict.kind == DIFFERENT and self.by is not None and self.by.read().result is not None

    def to_dict(self) -> dict[str, Any]:
        """The form in `verification.json` and of `--json`."""
        body: dict[str, Any] = {
            "samebits": __version__,
            "verified": identify_run(self.verified),
            "by": None if self.by is None else identify_run(self.by),
            "goal": self.verdict.level,
            "tolerance": self.tolerance.to_dict(),
            "verdict": self.verdict.kind,
            "reasons": list(self.verdict.reasons),
            "covers": self.verdict.covers or None,
            "preflight": [row.to_dict() for row in self.rows],
            "differences": [difference.to_dict() for difference in self.differences],
            "location": None if self.location is None else self.location.to_dict(),
            **({"trusted_code": True} if self.trusted_code else {}),
        }
        return complete_verification(body)


def identify_run(run: RunDir) -> dict[str, str | None]:
    """How a verification identifies a run: by id, checksum, and the digests of recipe and result."""
    record = run.read()
    result = record.result_digest
    return {
        "id": record.id,
        "seal": checksum_of(run),
        "recipe": str(record.recipe.digest),
        "result": None if result is None else str(result),
    }


def verify(run: RunDir, request: RerunRequest, options: VerifyOptions = _DEFAULTS) -> Verification:
    """Run `run` again and judge, unless this host cannot; writes the verification beside the new run."""
    record = run.read()
    _check_locate(options, record)
    level = options.level_for(record)
    # Seconds before hours: anything that prevents a verdict is found before the training.
    report = preflight_for(run, request)
    reasons = report.reasons(level)
    if reasons:
        verdict = not_comparable(level, reasons)
        return Verification(verified=run, verdict=verdict, tolerance=options.tolerance, rows=report.rows)
    report.spec.determinism.check(os.environ, "your environment")
    verifies = VerifiedRun(id=record.id, checksum=checksum_of(run))
    _announce(record)
    with filtered_output(request.streams) as streams:
        again, _ = execute(report.planned(verifies), report.available_runtime, streams, request.limits)
    trusted = report.available_runtime.setup.trusted_code
    verification = replace(_judge(run, again, options), rows=report.rows, trusted_code=trusted)
    # Locating trains again, and may be stopped: the verdict is on disk before.
    write_verification(again.verification, verification.to_dict())
    if options.locate and verification.has_divergence:
        verification = replace(verification, location=_locate(run, again, (report, report)))
        write_verification(again.verification, verification.to_dict())
    return verification


def _check_locate(options: VerifyOptions, record: Record) -> None:
    """Raise InputError where the divergence could not be located."""
    if options.locate and record.recipe.world_size > 1:
        raise InputError(f"{describe_workers(record.recipe.world_size)}, and no trace of steps; drop --locate")


def _announce(record: Record) -> None:
    """How long it may take, if that is long: the training prints its own progress, and may print none."""
    seconds = record.timings.total
    if seconds is not None and seconds >= _LONG_SECONDS:
        log_progress(f"training {record.id} again; it took {seconds:.0f} s when it was recorded")


def verify_against(
    run: RunDir, other: RunDir, request: RerunRequest, options: VerifyOptions = _DEFAULTS
) -> Verification:
    """Judge an existing run. Nothing is run, except to locate the divergence."""
    record = run.read()
    _check_locate(options, record)
    level = options.level_for(record)
    reasons = [text for side in (run, other) for text in damages(side, side.read())]
    if reasons:
        verdict = not_comparable(level, reasons)
        return Verification(verified=run, verdict=verdict, tolerance=options.tolerance, by=other)
    verification = _judge(run, other, options)
    if not (options.locate and verification.has_divergence):
        return verification
    reports = preflight_for(run, request), preflight_for(other, request)
    return replace(verification, location=_locate(run, other, reports))


def damages(run: RunDir, record: Record) -> list[str]:
    """Why a run that is there proves nothing: its ledger or another file is not as recorded."""
    problems = [f"ledger: {text}" for text in check_ledger(run.ledger, record).problems]
    changes = audit_files(run, record, lambda path: not path.startswith("checkpoints/")).misleading
    return problems + [f"files: {change}" for change in changes if change.path != run.ledger.name]


def preflight_for(run: RunDir, request: RerunRequest) -> PreflightReport:
    """Compare this host with a run that a command runs again."""
    return preflight(run, data=request.data, runs=request.runs, software=SoftwareOptions.of(request))


def _judge(run: RunDir, other: RunDir, options: VerifyOptions) -> Verification:
    """The verdict, and every difference."""
    records = run.read(), other.read()
    verdict = judge_runs(*records, options.level_for(records[0]), options.tolerance)
    differences = tuple(diff(run, other))
    # Equal inputs with different results: the script takes something that the recipe does not cover.
    if verdict.kind == DIFFERENT and not any(item.side == INPUTS for item in differences):
        verdict = replace(verdict, reasons=(*verdict.reasons, _unrecorded_cause(*records)))
    return Verification(verified=run, verdict=verdict, tolerance=options.tolerance, by=other, differences=differences)


def _unrecorded_cause(*records: Record) -> str:
    """The likely cause of a difference without a difference in the inputs."""
    places = sorted({str(use) for record in records for use in record.entropy})
    unpinned = sorted({str(use) for record in records for use in record.environment.unpinned or ()})
    if unpinned:
        more = [f"{ENTROPY.what}: {shorten(places, 3)}"] if places else []
        reasons = [f"reads what no recipe names: {shorten(unpinned, 3)}", *more]
        return f"no input differs, and the script {'; it '.join(reasons)}"
    if not places:
        # An old run, or one with the monitor off, does not show that there was none.
        watched = all(record.environment.entropy is not None for record in records)
        return _UNRECORDED if watched else f"{_UNRECORDED}; unseeded randomness was not watched in both runs"
    return f"no input differs, and the script {ENTROPY.what}: {shorten(places, 3)}"


def _locate(run: RunDir, other: RunDir, reports: tuple[PreflightReport, PreflightReport]) -> DivergenceLocation:
    """Where the runs diverge; if it cannot be located, the reason as its note."""
    # Locating compares no bits with the record, so the lowest level is enough.
    reasons = [reason for report in reports for reason in report.reasons(DOCUMENTED)]
    if reasons:
        return DivergenceLocation(note="; ".join(dict.fromkeys(reasons)))
    try:
        return locate(
            Side(run=(run, run.read()), train=retrainer(reports[0])),
            Side(run=(other, other.read()), train=retrainer(reports[1])),
        )
    except SamebitsError as error:
        return DivergenceLocation(note=str(error))


def retrainer(report: PreflightReport) -> TrainAgain:
    """A function that trains the recipe of a report again, silently; the new record holds how that ended."""

    def train_again(trace: Trace, runs: Path, resumes: Resumption | None) -> RunWithRecord:
        # A traced run ends after its window. It keeps what the next one can begin at: the beginning of its epoch.
        keep = every(trace.epoch) if trace.epoch and trace.step is None else NONE
        spec = replace(report.spec, trace=trace, keep=keep, checkpoint_every=None, runs=runs)
        planned = replace(report, spec=spec).planned(resumes=resumes)
        run = execute_silently(planned, report.available_runtime)
        return run, run.read()

    return train_again


def print_verification(found: Verification) -> None:
    """Print a verification on stdout; the last line is the verdict."""
    if found.by is not None:
        print_line(f"run {found.by.path}")
    # The place comes before the differences: changed files may fill the screen.
    for line in found.location.lines() if found.location is not None else ():
        print_line(line)
    for difference in folded(found.differences):
        print_difference(difference)
    for reason in found.verdict.reasons:
        print_line(reason)
    print_line(found.verdict.line)
