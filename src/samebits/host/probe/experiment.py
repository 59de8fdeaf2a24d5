"""`samebits check --run`: two short runs that differ in all that must not matter; where they part, what parts them.

The first is as a run always is. The second has another hash seed, order of folders, number of cores, clock, user, host
name and memory layout. Where they part, the first is repeated as it was, and then with half of what is left changed,
until that is one thing.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samebits.core.checkpoint_store import NONE
from samebits.core.errors import pluralize, shorten
from samebits.core.jsonio import as_record
from samebits.core.record import FAILED, FINISHED, EntropyUse, Record
from samebits.core.run_config import RunConfig
from samebits.core.run_setup import PlannedRun, plan_run
from samebits.core.trace_level import TENSOR, Trace
from samebits.core.trial import MEMORY, PERTURBATIONS, Trial
from samebits.host.compare.ledger_diff import first_divergence
from samebits.host.compare.run_diff import OUTPUTS, diff
from samebits.host.console import hashing_progress, log
from samebits.host.launch.runtime import Runtime, choose_runtime
from samebits.host.launch.train import execute_silently
from samebits.host.lint.findings import DIVERGENCE, ENTROPY, FAILURE, NONDETERMINISTIC_OP, Finding
from samebits.host.lint.linter import LintResult
from samebits.host.probe.diagnosis import ITSELF, describe_nondeterministic_op, likely_causes, pointed_to, unexplained
from samebits.host.rerun.divergence import Cause, RunWithRecord, causes_in

PROBE_STEPS = 5
_FEW = 2  # things that are tried one by one
_NODE = "[[{{node "


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeDivergence:
    """Where two runs part, and in which tensors; `note` is what else is to be said."""

    where: str
    causes: tuple[Cause, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.causes[0] if self.causes else self.note}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """What two short runs showed: `because` is what alone parts them, `suspects` may be behind it.

    `failure` is how the first one failed, where it did; `undetermined` are operations as the record's environment has
    them, `entropy` what no rule has found; `made` are the steps that the first one made, to its end if it is `whole`.
    """

    steps: int
    apart: ProbeDivergence | None = None
    because: str = ""
    likely_causes: tuple[str, ...] = ()
    failure: str = ""
    undetermined: tuple[dict[str, Any], ...] = ()
    made: int = 0
    whole: bool = False
    entropy: tuple[EntropyUse, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return self.apart is None and not self.failure and not self.entropy

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        apart = self.apart
        return {
            "steps": self.steps,
            "same": None if self.failure else apart is None,
            "made": self.made,
            "whole": self.whole,
            "where": None if apart is None else apart.where,
            "note": None if apart is None else apart.note,
            "causes": [] if apart is None else [cause.to_dict() for cause in apart.causes],
            "because": self.because or None,
            "suspects": list(self.likely_causes),
            "failure": self.failure or None,
            "entropy": [taken.to_dict() for taken in self.entropy],
            "undetermined": list(self.undetermined),
        }

    def findings(self, script: str) -> Iterator[Finding]:
        """As findings with a place, which is the script's first line where none is known."""
        for taken in self.entropy:
            yield Finding(path=taken.path, line=taken.line, column=1, code=ENTROPY.code, about=taken.call)
        said = [(rule, str(text)) for rule, text in ((DIVERGENCE, self.apart), (FAILURE, self.failure)) if text]
        said += [(NONDETERMINISTIC_OP, describe_nondeterministic_op(item)) for item in self.undetermined]
        yield from (Finding(path=script, line=1, column=1, code=rule.code, about=about) for rule, about in said)

    def lines(self) -> Iterator[str]:
        """For people; the last line is the verdict."""
        for taken in self.entropy:
            yield f"{taken} {ENTROPY.what} (seen in the run)"
        for item in self.undetermined:
            yield describe_nondeterministic_op(item)
        if self.failure:
            yield self.failure
        elif self.apart is None:
            yield f"two short runs are the same, with another {', '.join(PERTURBATIONS)}: {self._reach}"
        else:
            yield f"two short runs part at {self.apart}"
            yield from (f"    also {cause}" for cause in self.apart.causes[1:4])
            yield f"what parts them: {self.because}"
            yield from (f"likely: {suspect}" for suspect in self.likely_causes)

    @property
    def _reach(self) -> str:
        if self.whole:
            return f"{pluralize(self.made, 'step')} that could be seen, to the end of the script"
        return f"{pluralize(self.made, 'step')}; what comes behind was not run"


def probe(spec: RunConfig, checked: LintResult, steps: int) -> ProbeResult:
    """Make the two runs, and as many more as it takes to say what parts them; nothing of them is kept."""
    runtime = choose_runtime(spec)
    with tempfile.TemporaryDirectory(prefix="samebits-check-") as scratch:
        trials = Experiments(spec, runtime, Path(scratch))
        first = trials.run("a short run", Trial(steps=steps))
        if first[1].outcome.state == FAILED:
            return _failed(first, steps, checked)
        everything = Trial(steps=steps, changed=PERTURBATIONS)
        entropy = first[1].entropy
        other = trials.run(f"another, with other {', '.join(PERTURBATIONS)}", everything)
        found = ProbeResult(
            steps=steps,
            apart=_divergence(first, other),
            undetermined=tuple(first[1].environment.get("undetermined", ())),
            made=first[1].timings.get("steps", 0),
            whole=first[1].outcome.state == FINISHED,
            entropy=tuple(unexplained(entropy, checked)),
        )
        if found.apart is None:
            return found
        because, apart = _cause(trials, first, found.apart, pointed_to(checked))
        behind = (*_inside(because, apart), *likely_causes(because, checked, entropy))
        return replace(found, because=because, apart=apart, likely_causes=behind)


class Experiments:
    """Short runs of one script, whose code and data are hashed once."""

    def __init__(self, spec: RunConfig, runtime: Runtime, scratch: Path, trace: Trace | None = None) -> None:
        self._runtime = runtime
        trace = Trace(level=TENSOR) if trace is None else trace
        spec = replace(spec, runs=scratch, trace=trace, keep=NONE, checkpoint_every=None, strict=False)
        with hashing_progress("hashing the data") as progress:
            self._planned: PlannedRun = plan_run(spec, runtime.setup, progress)

    def run(self, what: str, trial: Trial) -> RunWithRecord:
        """One of them, without a word of the script's: its record tells how it went."""
        log(f"trying: {what}")
        planned = replace(self._planned, spec=replace(self._planned.spec, trial=trial))
        folder = execute_silently(planned, self._runtime)
        return folder, folder.read()


def _cause(
    trials: Experiments, first: RunWithRecord, apart: ProbeDivergence, likely: Sequence[str]
) -> tuple[str, ProbeDivergence]:
    """What alone parts the runs, and where; all of it together where no one thing does."""
    plain = first[1].trial or Trial()
    again = _divergence(first, trials.run("the first one again", plain))
    if again is not None:
        return ITSELF, again
    left, other = _halved(trials, first, likely)
    if other is None:
        return f"no one thing, but together: {', '.join(left)}", apart
    again = _divergence(other, trials.run(f"that once more, with another {left[0]}", replace(plain, changed=left)))
    return (left[0], _divergence(first, other) or apart) if again is None else (ITSELF, again)


def _halved(
    trials: Experiments, first: RunWithRecord, likely: Sequence[str]
) -> tuple[tuple[str, ...], RunWithRecord | None]:
    """The one thing that alone parts a run from the first, and that run; else the fewest that were seen to.

    The memory layout is asked for by itself, as whatever else is changed moves things in memory, too; then what the
    script points to, where that is one thing or two.
    """
    plain = first[1].trial or Trial()
    for name in (MEMORY, *(likely if len(likely) <= _FEW else ())):
        ran = trials.run(f"with another {name} alone", replace(plain, changed=(name,)))
        if _divergence(first, ran) is not None:
            return (name,), ran
    left: tuple[str, ...] = tuple(name for name in PERTURBATIONS if name != MEMORY)
    enough: tuple[str, ...] = PERTURBATIONS
    other: RunWithRecord | None = None
    while len(left) > 1 or other is None:
        half, rest = left[: (len(left) + 1) // 2], left[(len(left) + 1) // 2 :]
        ran = trials.run(f"with another {', '.join(half)} alone", replace(plain, changed=half))
        if _divergence(first, ran) is not None:
            left, enough, other = half, half, ran
        elif rest:
            left, other = rest, None
        else:
            return enough, None
    return left, other


def _inside(because: str, apart: ProbeDivergence) -> Iterator[str]:
    """The layer, where it gives something else for the same input."""
    first = apart.causes[0] if apart.causes else None
    if because == ITSELF and first is not None and first.kind == "output":
        yield f"layer {first.layer} gives something else for the same input: its weights, random numbers or operations"


def _divergence(one: RunWithRecord, other: RunWithRecord) -> ProbeDivergence | None:
    """Where they part: in a line of the ledger, in how they ended, or in what came out."""
    ends = [record.outcome for _, record in (one, other)]
    parting = first_divergence(one, other)
    if parting is not None and (parting.one is not None and parting.other is not None):
        names = shorten([name for name, _, _ in parting.differences()], 3)
        return ProbeDivergence(where=parting.where, causes=tuple(causes_in(parting)), note=f"{names} differ")
    if (ends[0].state, ends[0].message) != (ends[1].state, ends[1].message):
        return ProbeDivergence(where="the end", note=f"one {_ended(one[1])}, the other {_ended(other[1])}")
    if parting is not None:
        return ProbeDivergence(where=parting.where, note="one has no such line")
    if one[1].result_digest != other[1].result_digest:
        with as_record("a short run"):
            outputs = [item.name for item in diff(one[0], other[0]) if item.side == OUTPUTS]
        return ProbeDivergence(where="the end", note=f"{shorten(outputs, 3)} differ")
    return None


def _ended(record: Record) -> str:
    outcome = record.outcome
    return f"{outcome.state}: {outcome.message}" if outcome.message else outcome.state


def _failed(first: RunWithRecord, steps: int, checked: LintResult) -> ProbeResult:
    """The script failed as it stands: why, and in which of its lines; an operation may be behind it, which is named."""
    folder, record = first
    trace = record.outcome.traceback or ""
    lines = [line.strip() for line in trace.splitlines()]
    nodes = [number for number, line in enumerate(lines) if number and line.startswith(_NODE)]
    said = [line.strip() for line in folder.log.read_text("utf-8", "replace").splitlines() if line.strip()]
    reason = f" {lines[nodes[0] - 1]}" if nodes else ""  # what is wrong stands above the node of the graph
    if not trace and said:
        reason = f": {said[-1]}"
    frames = re.findall(rf'File ".*/{folder.path.name}/{folder.code.name}/(.*)", line (\d+)', trace)
    where = f" ({frames[-1][0]}, line {frames[-1][1]})" if frames else ""
    return ProbeResult(
        steps=steps,
        failure=f"{record.outcome.message}{reason}{where}",
        undetermined=tuple(record.environment.get("undetermined", ())),
        entropy=tuple(unexplained(record.entropy, checked)),
    )
