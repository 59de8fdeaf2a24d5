"""Locate where two trainings first diverge, by training both again with a finer trace.

First with a line for each step of the epoch in which the ledgers diverge; then with every tensor of that one step. Each
of these runs begins at the last checkpoint before the divergence, ends after its window, and is deleted. The first one
of a side leaves a checkpoint at the beginning of that epoch, where the second begins. A run from a checkpoint counts
only if it reproduces what its side recorded; else both sides are trained from the beginning.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samebits.core.errors import RecordError, SamebitsError, shorten
from samebits.core.origin import ResumedRun
from samebits.core.record import FINISHED, Record
from samebits.core.retention import LAST
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import Resumption
from samebits.core.trace_level import STEP, TENSOR, Trace
from samebits.host.audit.checkpoint_audit import CheckpointAudit, refusals
from samebits.host.compare.ledger_diff import Divergence, first_divergence
from samebits.host.compare.tensor_diff import TensorStore
from samebits.host.console import log_progress
from samebits.host.rerun.causes import Cause, causes_in
from samebits.host.runs.registry import checksum_of

RunWithRecord = tuple[RunDir, Record]
Starts = tuple[Resumption | None, Resumption | None]
"""Where both sides begin: at a checkpoint, or at the beginning."""
TrainAgain = Callable[[Trace, Path, Resumption | None], RunWithRecord]
"""Trains a recipe again with a trace, in a folder of runs, from a checkpoint or the beginning; returns the new run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of two runs to compare, and how its recipe is trained again."""

    run: RunWithRecord
    train: TrainAgain


@dataclass(frozen=True, kw_only=True, slots=True)
class DivergenceLocation:
    """The place of the divergence, as far as it was found; `causes` are all tensors that differ there, in order."""

    where: str = ""
    fit: int | None = None
    loop: int | None = None
    epoch: int | None = None
    step: int | None = None
    causes: tuple[Cause, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The form in JSON."""
        return {
            "fit": self.fit,
            "loop": self.loop,
            "epoch": self.epoch,
            "step": self.step,
            "causes": [cause.to_dict() for cause in self.causes],
            "note": self.note,
        }

    def lines(self) -> list[str]:
        """The lines of a message."""
        if not self.causes:
            return [f"diverges at {self.where}: {self.note}" if self.where else f"not located: {self.note}"]
        more = [f"    also {cause}" for cause in self.causes[1:]]
        note = [f"    {self.note}"] if self.note else []
        return [f"diverges first at {self.where}: {self.causes[0]}", *note, *more]


AGREED = "the ledgers agree: the difference came after the last epoch, or is in an output file"
NO_STEP = "look at validation and callbacks"


def locate(one: Side, other: Side) -> DivergenceLocation:
    """The epoch, step, tensor and layer where two runs diverge, if they diverge again when trained again."""
    divergence = first_divergence(one.run, other.run)
    if divergence is None:
        return DivergenceLocation(note=AGREED)
    starts = checkpoint_before(one, divergence.numbers[0]), checkpoint_before(other, divergence.numbers[1])
    if any(starts):
        log_progress(f"locating: starting at checkpoints: {_places(starts)}")
        try:
            return _locate_from((one, other), starts, divergence)
        except SamebitsError as error:
            log_progress(f"locating: starting at the beginning instead: {error}")
    return _locate_from((one, other), (None, None), divergence)


def _locate_from(sides: tuple[Side, Side], starts: Starts, divergence: Divergence) -> DivergenceLocation:
    """Locate by training both sides from where they start; raises SamebitsError if one cannot be trained like that."""
    # The traced runs are large, and no runs of the user's: they leave nothing in the folder of runs.
    with tempfile.TemporaryDirectory(prefix="samebits-locate-") as scratch:
        # Runs that were traced by step already skip the first training.
        if divergence.place("step") is None:
            window = Trace(level=STEP, fit=divergence.place("fit"), epoch=divergence.place("epoch"))
            log_progress(f"locating: training both again to {divergence.where}, with a line for each step")
            traced = _train_both(sides, starts, window, Path(scratch) / "step")
            others = _not_reproduced(sides, starts, traced, divergence)
            found = first_divergence(*traced)
            # The second training may reveal that no step differs.
            if found is None or found.place("step") is None:
                return _not_in_a_step(divergence, found)
            divergence, later = found, later_starts(sides, starts, traced, found.numbers)
        else:
            others, later = [], starts
        return _with_note(_locate_tensors(sides, starts, later, divergence, Path(scratch)), others)


def _places(starts: Starts) -> str:
    return "; ".join(str(start.run.checkpoint) if start else "the beginning" for start in starts)


def later_starts(
    sides: tuple[Side, Side],
    starts: Starts,
    traced: tuple[RunWithRecord, RunWithRecord],
    numbers: tuple[int | None, int | None],
) -> Starts:
    """Where both sides can begin within what was just trained, as near as that left a checkpoint before a line."""
    one, other = (
        checkpoint_before(replace(side, run=run), number) or start
        for side, start, run, number in zip(sides, starts, traced, numbers, strict=True)
    )
    return one, other


def _locate_tensors(
    sides: tuple[Side, Side],
    starts: Starts,
    later: Starts,
    divergence: Divergence,
    scratch: Path,
) -> DivergenceLocation:
    """The tensors of the step, trained from the `later` starts where they lead to it, and else from the others."""

    def located(begins: Starts, folder: Path) -> DivergenceLocation:
        what = f"training both again to {divergence.where}, with every tensor of it"
        log_progress(f"locating: {what}, from {_places(begins)}")
        traced = _train_both(sides, begins, _window(divergence), folder)
        found = first_divergence(*traced)
        if any(begins):
            _require_same_step(divergence, found)
        return _in_step(divergence, found, traced)

    if later != starts:
        try:
            return located(later, scratch / "later")
        except SamebitsError as error:
            log_progress(f"locating: starting earlier instead: {error}")
    return located(starts, scratch / "tensor")


def _not_reproduced(
    sides: tuple[Side, Side],
    starts: Starts,
    traced: tuple[RunWithRecord, RunWithRecord],
    divergence: Divergence,
) -> list[str]:
    """The runs that, trained from the beginning, have other lines than were recorded; from a checkpoint, none may."""
    found = []
    for side, start, run, number in zip(sides, starts, traced, divergence.numbers, strict=True):
        try:
            require_reproduced(side.run, run, number)
        except SamebitsError:
            if start is not None:
                raise
            found.append(side.run[1].id)
    return found


def _with_note(location: DivergenceLocation, others: Sequence[str]) -> DivergenceLocation:
    """The location with the runs that were not reproduced, if any: it is then of their new trainings."""
    if not others or not location.causes:
        return location
    return replace(
        location,
        note=f"trained again, {' and '.join(others)} did not train as recorded: this place is of the new trainings",
    )


def checkpoint_before(side: Side, number: int | None) -> Resumption | None:
    """The last usable checkpoint before a line of the run's ledger; None where there is none."""
    run, record = side.run
    if number is None or refusals(run, record):
        return None
    try:
        checkpoints = CheckpointAudit.of(run, record)
    except RecordError:
        return None
    before = [place for place in checkpoints.good if place.step is None and checkpoints.lines(place) < number]
    for place in sorted(before, key=lambda place: place.order, reverse=True):
        if checkpoints.wrong_with_needed(place) is None:
            return Resumption(
                run=ResumedRun(id=record.id, checksum=checksum_of(run), checkpoint=place),
                ledger=run.ledger,
                size=checkpoints.size(place),
                store=run.checkpoints,
                positions=checkpoints.taken_over(place, keep=LAST),
            )
    return None


def require_reproduced(recorded: RunWithRecord, traced: RunWithRecord, number: int | None) -> None:
    """Raise SamebitsError unless a run from a checkpoint has the recorded lines, `number` included."""
    found = first_divergence(recorded, traced)
    # It ends after its window, so its ledger is the shorter one.
    ended = found is not None and found.other is None and number is not None and found.number > number
    if not (found is None or ended):
        raise SamebitsError(f"trained again, {recorded[1].id} has other lines than it recorded")


def _require_same_step(divergence: Divergence, found: Divergence | None) -> None:
    """Raise SamebitsError unless the step with every tensor is the step that was found to differ."""
    same = found is not None and found.where == divergence.where
    for before, again in ((divergence.one, found and found.one), (divergence.other, found and found.other)):
        values = [(line or {}).get("tensors") for line in (before, again)]
        # With every tensor, a line has sha256: digests by a faster hash cannot be compared with it.
        if before is not None and _hashes(values[0]) == _hashes(values[1]):
            same = same and values[0] == values[1]
    if not same:
        raise SamebitsError(f"trained again, {divergence.where} is another")


def _hashes(tensors: object) -> set[str]:
    """The hashes that a line's digests of tensors are made by."""
    values = tensors.values() if isinstance(tensors, dict) else ()
    return {str(value).rpartition(":")[0] for value in values}


def _train_both(
    sides: tuple[Side, Side], starts: Starts, trace: Trace, scratch: Path
) -> tuple[RunWithRecord, RunWithRecord]:
    """Train both sides with a trace; raises SamebitsError if one could not be trained or traced like that."""
    return (
        train_traced(sides[0], starts[0], trace, scratch / "one"),
        train_traced(sides[1], starts[1], trace, scratch / "other"),
    )


def train_traced(side: Side, start: Resumption | None, trace: Trace, runs: Path) -> RunWithRecord:
    """Train one side with a trace; raises SamebitsError if it could not be trained or traced like that."""
    run, record = side.train(trace, runs, start)
    # The kept source of an older run ignores a trace that it does not know.
    if record.trace != trace:
        raise SamebitsError(f"the samebits that {record.id} was recorded by cannot trace single {trace.level}s")
    # A narrow trace stops its run after the window, with a message that says so.
    ended = record.outcome
    if ended.state != FINISHED and not (trace.has_window and ended.message == trace.message):
        raise SamebitsError(f"trained again, it ended differently: {ended.state}: {ended.message}")
    return run, record


def _window(divergence: Divergence) -> Trace:
    places = {name: divergence.place(name) for name in ("fit", "epoch", "step", "loop")}
    return Trace(level=TENSOR, **places)


def _location(divergence: Divergence, *, causes: tuple[Cause, ...] = (), note: str = "") -> DivergenceLocation:
    return DivergenceLocation(
        where=divergence.where,
        fit=divergence.place("fit"),
        loop=divergence.place("loop"),
        epoch=divergence.place("epoch"),
        step=divergence.place("step"),
        causes=causes,
        note=note,
    )


def _not_in_a_step(divergence: Divergence, found: Divergence | None) -> DivergenceLocation:
    """Trained again, the weights agree after every step of that epoch."""
    if found is None:
        return _location(
            divergence,
            note="trained again twice, the two agree: this machine reproduces the training; the other run was trained"
            " under conditions that its recipe does not record",
        )
    names = ", ".join(name for name, _, _ in found.differences()) or "one ended there"
    return _location(found, note=f"no step differs, only {names}: {NO_STEP}")


def _in_step(
    divergence: Divergence, found: Divergence | None, traced: tuple[RunWithRecord, RunWithRecord]
) -> DivergenceLocation:
    # A script without seeds diverges anew each time, not necessarily at the same step.
    if found is None or found.one is None or found.other is None:
        return _location(divergence, note="trained again, the two agree there: each training diverges at another place")
    causes = causes_in(found, (TensorStore(traced[0][0]), TensorStore(traced[1][0])))
    names = shorten([name for name, _, _ in found.differences()], 3)
    return _location(found, causes=tuple(causes), note="" if causes else f"no value differs there, only {names}")
