"""`samebits check --run`: does a script repeat when its environment changes, and if not, what is the cause?

Two short runs are made. The first runs in the normal environment. The second has another hash seed, directory order,
number of cores, clock, user, host name and memory layout. If they diverge, the first is repeated unchanged; then the
perturbations are bisected until one remains.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samebits.core.environment import NondeterministicOpUse
from samebits.core.errors import pluralize, shorten
from samebits.core.record import FAILED, FINISHED, Record
from samebits.core.retention import NONE
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_lines
from samebits.core.run_setup import PlannedRun, plan_run
from samebits.core.script_uses import EntropyUse
from samebits.core.trace_level import TENSOR, Trace
from samebits.core.trial import MEMORY, PERTURBATIONS, Trial
from samebits.host.compare.ledger_diff import first_divergence
from samebits.host.compare.run_diff import OUTPUTS, diff
from samebits.host.console import hashing_progress, log_progress
from samebits.host.launch.runtime import Runtime, choose_runtime
from samebits.host.launch.train import CRASHED, execute_silently
from samebits.host.lint.findings import DIVERGENCE, ENTROPY, FAILURE, NONDETERMINISTIC_OP, Finding
from samebits.host.lint.linter import LintResult
from samebits.host.probe.diagnosis import (
    ITSELF,
    describe_nondeterministic_op,
    hinted_perturbations,
    likely_causes,
    unexplained,
)
from samebits.host.rerun.causes import Cause, causes_in
from samebits.host.rerun.divergence import RunWithRecord

PROBE_STEPS = 5
_MAX_SINGLE = 2  # so many perturbations are tried one by one; more of them are bisected
_NODE = "[[{{node "
"""The start of a line in TensorFlow's tracebacks that names a graph node. The line above it has the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeDivergence:
    """Where two runs diverge, and in which tensors. `note` describes it where there are no tensors."""

    where: str
    causes: tuple[Cause, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.causes[0] if self.causes else self.note}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """The outcome of the short runs. `cause` is the smallest set of perturbations that makes them diverge.

    `failure` says how the first run failed. `nondeterministic_ops` are operations as the record's environment lists
    them. `entropy` are unseeded draws that no rule found. `made` is the number of steps of the first run; it is `whole`
    if it ran to the end of the script.
    """

    steps: int
    divergence: ProbeDivergence | None = None
    cause: str = ""
    likely_causes: tuple[str, ...] = ()
    failure: str = ""
    nondeterministic_ops: tuple[NondeterministicOpUse, ...] = ()
    made: int = 0
    whole: bool = False
    entropy: tuple[EntropyUse, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return self.divergence is None and not self.failure and not self.entropy

    def to_dict(self) -> dict[str, Any]:
        """As the JSON output has it."""
        found = self.divergence
        return {
            "steps": self.steps,
            "same": None if self.failure else found is None,
            "made": self.made,
            "whole": self.whole,
            "where": None if found is None else found.where,
            "note": None if found is None else found.note,
            "causes": [] if found is None else [cause.to_dict() for cause in found.causes],
            "because": self.cause or None,
            "suspects": list(self.likely_causes),
            "failure": self.failure or None,
            "entropy": [use.to_dict() for use in self.entropy],
            "undetermined": [item.to_dict() for item in self.nondeterministic_ops],
        }

    def findings(self, script: str) -> Iterator[Finding]:
        """The result as findings. One without a known line is placed in the script's first line."""
        for use in self.entropy:
            yield Finding(path=use.path, line=use.line, column=1, code=ENTROPY.code, about=use.call)
        found = [(rule, str(text)) for rule, text in ((DIVERGENCE, self.divergence), (FAILURE, self.failure)) if text]
        found += [(NONDETERMINISTIC_OP, describe_nondeterministic_op(item)) for item in self.nondeterministic_ops]
        yield from (Finding(path=script, line=1, column=1, code=rule.code, about=about) for rule, about in found)

    def lines(self) -> Iterator[str]:
        """The text output."""
        for use in self.entropy:
            yield f"{use} {ENTROPY.what} (observed in the run)"
        for item in self.nondeterministic_ops:
            yield describe_nondeterministic_op(item)
        if self.failure:
            yield self.failure
        elif self.divergence is None:
            yield f"two short runs are identical with a different {', '.join(PERTURBATIONS)}: {self._extent}"
        else:
            yield f"two short runs diverge at {self.divergence}"
            yield from (f"    also {cause}" for cause in self.divergence.causes[1:4])
            yield f"cause: {self.cause}"
            yield from (f"likely cause: {line}" for line in self.likely_causes)

    @property
    def _extent(self) -> str:
        if self.whole:
            return f"{pluralize(self.made, 'observed step')}, up to the end of the script"
        return f"{pluralize(self.made, 'step')}; later steps were not run"


def probe(spec: RunConfig, checked: LintResult, steps: int) -> ProbeResult:
    """Make the two runs, and as many more as it takes to find the cause of a divergence. No run is kept."""
    runtime = choose_runtime(spec)
    with tempfile.TemporaryDirectory(prefix="samebits-check-") as scratch:
        experiments = Experiments(spec, runtime, Path(scratch))
        first = experiments.run("a short run", Trial(steps=steps))
        # A script that fails on its own has nothing to compare.
        if first[1].outcome.state == FAILED:
            return _failed(first, steps, checked)
        everything = Trial(steps=steps, changed=PERTURBATIONS)
        entropy = first[1].entropy
        other = experiments.run(f"a second one, with a different {', '.join(PERTURBATIONS)}", everything)
        # A crash is no other result of the script: compiled code did not bear a perturbation.
        if (other[1].outcome.message or "").startswith(CRASHED):
            return replace(_failed(first, steps, checked), failure=f"the second run failed: {other[1].outcome.message}")
        found = ProbeResult(
            steps=steps,
            divergence=_divergence(first, other),
            nondeterministic_ops=first[1].environment.nondeterministic_ops or (),
            made=first[1].timings.steps or 0,
            whole=first[1].outcome.state == FINISHED,
            entropy=tuple(unexplained(entropy, checked)),
        )
        if found.divergence is None:
            return found
        cause, divergence = _isolate_cause(experiments, first, found.divergence, hinted_perturbations(checked))
        likely = (*_layer_hint(cause, divergence), *likely_causes(cause, checked, entropy))
        return replace(found, cause=cause, divergence=divergence, likely_causes=likely)


class Experiments:
    """Short runs of one script, whose code and data are hashed only once."""

    def __init__(self, spec: RunConfig, runtime: Runtime, scratch: Path, trace: Trace | None = None) -> None:
        self._runtime = runtime
        trace = Trace(level=TENSOR) if trace is None else trace
        # Tensor lines locate a divergence; checkpoints and strict mode would only cost time or end the run.
        spec = replace(spec, runs=scratch, trace=trace, keep=NONE, checkpoint_every=None, strict=False)
        with hashing_progress("hashing the data") as progress:
            self._planned: PlannedRun = plan_run(spec, runtime.setup, progress)

    def run(self, what: str, trial: Trial) -> RunWithRecord:
        """Make one run without the script's output; its record says how it ended. `what` describes it in the log."""
        log_progress(f"trying: {what}")
        planned = replace(self._planned, spec=replace(self._planned.spec, trial=trial))
        folder = execute_silently(planned, self._runtime)
        return folder, folder.read()


def _isolate_cause(
    experiments: Experiments, first: RunWithRecord, divergence: ProbeDivergence, likely: Sequence[str]
) -> tuple[str, ProbeDivergence]:
    """The single cause of a divergence and where it appears; all perturbations together if there is no single one."""
    plain = first[1].trial or Trial()
    # A script that does not repeat unchanged would make every further comparison meaningless.
    again = _divergence(first, experiments.run("the first run again", plain))
    if again is not None:
        return ITSELF, again
    left, other = _bisect(experiments, first, likely)
    if other is None:
        return f"no single one, but together: {', '.join(left)}", divergence
    # The run that diverged must repeat, too; otherwise the script is nondeterministic after all.
    repeated = experiments.run(f"again, with a different {left[0]}", replace(plain, changed=left))
    again = _divergence(other, repeated)
    return (left[0], _divergence(first, other) or divergence) if again is None else (ITSELF, again)


def _bisect(
    experiments: Experiments, first: RunWithRecord, likely: Sequence[str]
) -> tuple[tuple[str, ...], RunWithRecord | None]:
    """The single perturbation that makes a run diverge from the first, and that run.

    If there is none, returns the smallest set of perturbations that does, and None.
    """
    plain = first[1].trial or Trial()
    # The memory layout comes first and alone, because every other change moves things in memory, too.
    for name in (MEMORY, *(likely if len(likely) <= _MAX_SINGLE else ())):
        ran = experiments.run(f"with a different {name} only", replace(plain, changed=(name,)))
        if _divergence(first, ran) is not None:
            return (name,), ran
    # Bisect the rest: keep the half that diverges, else try the other half.
    left: tuple[str, ...] = tuple(name for name in PERTURBATIONS if name != MEMORY)
    enough: tuple[str, ...] = PERTURBATIONS
    other: RunWithRecord | None = None
    while len(left) > 1 or other is None:
        half, rest = left[: (len(left) + 1) // 2], left[(len(left) + 1) // 2 :]
        ran = experiments.run(f"with a different {', '.join(half)} only", replace(plain, changed=half))
        if _divergence(first, ran) is not None:
            left, enough, other = half, half, ran
        elif rest:
            left, other = rest, None
        else:
            return enough, None
    return left, other


def _layer_hint(cause: str, divergence: ProbeDivergence) -> Iterator[str]:
    """The layer whose output differs for equal inputs, if the script is nondeterministic on its own."""
    first = divergence.causes[0] if divergence.causes else None
    if cause == ITSELF and first is not None and first.kind == "output":
        yield f"layer {first.layer} gives another output for the same input: check its weights, randomness, operations"


def _divergence(one: RunWithRecord, other: RunWithRecord) -> ProbeDivergence | None:
    """The first difference of two runs: in a ledger line, in how they ended, or in their results."""
    found = first_divergence(one, other)
    if found is not None and (found.one is not None and found.other is not None):
        names = shorten([name for name, _, _ in found.differences()], 3)
        return ProbeDivergence(where=found.where, causes=tuple(causes_in(found)), note=f"{names} differ")
    # A run that ended early has a shorter ledger, but how it ended says more.
    ends = [_describe_outcome(record) for _, record in (one, other)]
    if ends[0] != ends[1]:
        return ProbeDivergence(where="the end", note=f"one {ends[0]}, the other {ends[1]}")
    if found is not None:
        return ProbeDivergence(where=found.where, note="only one run has this line")
    return _differing_outputs(one, other)


def _differing_outputs(one: RunWithRecord, other: RunWithRecord) -> ProbeDivergence | None:
    if one[1].result_digest == other[1].result_digest:
        return None
    outputs = [item.name for item in diff(one[0], other[0]) if item.side == OUTPUTS]
    return ProbeDivergence(where="the end", note=f"{shorten(outputs, 3)} differ")


def _describe_outcome(record: Record) -> str:
    outcome = record.outcome
    return f"{outcome.state}: {outcome.message}" if outcome.message else outcome.state


def _failed(first: RunWithRecord, steps: int, checked: LintResult) -> ProbeResult:
    """The result if the script fails without any perturbation; an operation that it uses may be the reason."""
    folder, record = first
    return ProbeResult(
        steps=steps,
        failure=f"{record.outcome.message}{_failure_reason(folder, record)}{_failed_line(folder, record)}",
        nondeterministic_ops=record.environment.nondeterministic_ops or (),
        entropy=tuple(unexplained(record.entropy, checked)),
    )


def _failure_reason(folder: RunDir, record: Record) -> str:
    """TensorFlow's reason from the traceback; without a traceback, the last line of the script's output."""
    lines = [line.strip() for line in (record.outcome.traceback or "").splitlines()]
    for number, line in enumerate(lines):
        if number and line.startswith(_NODE):
            return f" {lines[number - 1]}"
    logged = [line.decode("utf-8", "replace").strip() for line in plain_lines(folder.log) if line.strip()]
    return f": {logged[-1]}" if logged and not record.outcome.traceback else ""


def _failed_line(folder: RunDir, record: Record) -> str:
    """The innermost line of the script's own code in the traceback, as ` (file, line N)`; empty if there is none."""
    own_file = rf'File ".*/{folder.path.name}/{folder.work.name}/(.*)", line (\d+)'
    frames = re.findall(own_file, record.outcome.traceback or "")
    return f" ({frames[-1][0]}, line {frames[-1][1]})" if frames else ""
