"""`samebits check --resume`: can a script be resumed to the same bits? Nothing of it is kept.

A short run writes three checkpoints, with epochs of a few steps each. A second run, in a process of its own, resumes it
from its first checkpoint. It must reproduce each later checkpoint, the ledger and the result.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samebits.core.checkpoint_store import Position
from samebits.core.errors import pluralize
from samebits.core.origin import ResumedRun
from samebits.core.record import FAILED, FINISHED, Record
from samebits.core.retention import ALL
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import PlannedRun, Resumption, plan_run
from samebits.core.trial import Trial
from samebits.host.audit.checkpoint_audit import CheckpointAudit, refusals
from samebits.host.console import hashing_progress, log_progress
from samebits.host.launch.runtime import Runtime, choose_runtime
from samebits.host.launch.train import execute_silently
from samebits.host.lint.findings import FAILURE, RESUME, Finding
from samebits.host.runs.registry import checksum_of

EPOCH_STEPS = 5
_CHECKPOINTS = 3
_MOST_STEPS = 2000
_NO_CHECKPOINT = "it wrote no checkpoint: train by fit, or wrap the loop in samebits.checkpoint"


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeCheck:
    """What was found: `reasons` why the script cannot be resumed exactly; without any, what was compared.

    `start` is where the second run began, `compared` are the checkpoints that it reproduced. `whole` says that both ran
    to the end of the script, so that the results were compared, too. `steps` is the most steps of an epoch.
    """

    steps: int
    reasons: tuple[str, ...] = ()
    start: Position | None = None
    compared: tuple[Position, ...] = ()
    whole: bool = False

    @property
    def passed(self) -> bool:
        """Whether it resumed to the same bits."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """As the JSON output has it."""
        return {
            "same": self.passed,
            "reasons": list(self.reasons),
            "steps": self.steps,
            "start": None if self.start is None else self.start.name,
            "compared": [position.name for position in self.compared],
            "whole": self.whole,
        }

    def findings(self, script: str) -> Iterator[Finding]:
        """The reasons as findings, in the script's first line."""
        for reason in self.reasons:
            code = FAILURE.code if _is_failure(reason) else RESUME.code
            yield Finding(path=script, line=1, column=1, code=code, about=reason)

    def lines(self) -> Iterator[str]:
        """The text output."""
        for reason in self.reasons:
            yield reason if _is_failure(reason) else f"not resumable to the same bits: {reason}"
        if self.passed:
            things = (
                [f"the ledger and the state at {pluralize(len(self.compared), 'checkpoint')}"] if self.compared else []
            )
            things += ["the result"] if self.whole else []
            yield f"resumed after {self.start} in a new process, it reaches the same bits: {', and '.join(things)}"
            extent = "up to the end of the script" if self.whole else "later training was not run"
            yield f"epochs of fit had {pluralize(self.steps, 'step')} at most; {extent}"


def _is_failure(reason: str) -> bool:
    """Whether it is no reason not to resume, as the script does not run at all."""
    return reason.startswith(FAILURE.what)


def check_resume(spec: RunConfig, steps: int) -> ResumeCheck:
    """Make the two runs and compare them."""
    runtime = choose_runtime(spec)
    with tempfile.TemporaryDirectory(prefix="samebits-check-") as scratch:
        trial = Trial(epoch_steps=steps, checkpoints=_CHECKPOINTS, steps=_MOST_STEPS)
        spec = replace(spec, runs=Path(scratch), keep=ALL, checkpoint_every=None, strict=False, trial=trial)
        with hashing_progress("hashing the data") as progress:
            planned = plan_run(spec, runtime.setup, progress)
        log_progress(f"trying: a short run of {pluralize(_CHECKPOINTS, 'checkpoint')}")
        run = execute_silently(planned, runtime)
        record = run.read()
        reasons = _reasons(run, record)
        if reasons:
            return ResumeCheck(steps=steps, reasons=reasons)
        return _compare(planned, runtime, run, record)


def _reasons(run: RunDir, record: Record) -> tuple[str, ...]:
    """Why the first run cannot be resumed at all."""
    if record.outcome.state == FAILED:
        return (f"{FAILURE.what}: {record.outcome.message}",)
    if found := refusals(run, record):
        return found
    number = len(run.checkpoints.positions())
    if number == 1 and record.outcome.state != FINISHED:
        return (f"it wrote one checkpoint only in {_MOST_STEPS:,} steps; try it with shorter rounds",)
    return () if number else (_NO_CHECKPOINT,)


def _compare(planned: PlannedRun, runtime: Runtime, run: RunDir, record: Record) -> ResumeCheck:
    """Resume the first run from its first checkpoint."""
    start, *later = run.checkpoints.positions()
    whole = record.outcome.state == FINISHED
    log_progress(f"trying: the same run, resumed after {start}")
    again = execute_silently(_resuming(planned, run, record, start, None if whole else later[-1]), runtime).read()
    found = ResumeCheck(steps=_steps(planned), start=start, compared=tuple(later), whole=whole)
    if again.outcome.state == FAILED:
        # The rest of the message says what to do with a run, which is none here.
        return replace(found, reasons=(str(again.outcome.message).partition("; nothing after it was trained")[0],))
    if again.outcome != record.outcome and whole:
        return replace(found, reasons=(f"the resumed run ended as {again.outcome.state}: {again.outcome.message}",))
    if again.result_digest != record.result_digest or again.ledger != record.ledger:
        return replace(found, reasons=(f"resumed after {start}, the result differs",))
    return found


def _resuming(planned: PlannedRun, run: RunDir, record: Record, start: Position, until: Position | None) -> PlannedRun:
    """The second run: it must reproduce every checkpoint after its start."""
    audit = CheckpointAudit.of(run, record)
    positions = run.checkpoints.positions()
    resumes = Resumption(
        run=ResumedRun(
            id=record.id,
            checksum=checksum_of(run),
            checkpoint=start,
            until=until,
            replays=positions[-1] if len(positions) > 1 else None,
        ),
        ledger=run.ledger,
        size=audit.ledger.size,
        store=run.checkpoints,
        positions=tuple(positions),
    )
    trial = Trial(epoch_steps=_steps(planned))
    return replace(planned, spec=replace(planned.spec, trial=trial), setup=replace(planned.setup, resumes=resumes))


def _steps(planned: PlannedRun) -> int:
    trial = planned.spec.trial
    return EPOCH_STEPS if trial is None or trial.epoch_steps is None else trial.epoch_steps
