"""Locate where two trainings first diverge, by training both again with a finer trace.

First with a line for each step of the epoch in which the ledgers diverge; then with every tensor of that one step. Each
of these runs begins at the last checkpoint before the divergence, ends after its window, and is deleted. A run from a
checkpoint counts only if it reproduces what its side recorded; else both sides are trained from the beginning.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samebits.core.errors import RecordError, SamebitsError, shorten
from samebits.core.jsonio import Fields
from samebits.core.origin import ResumedRun
from samebits.core.record import FINISHED, Record
from samebits.core.result import TensorDescription
from samebits.core.retention import LAST
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import Resumption
from samebits.core.trace_level import INPUT, STEP, TENSOR, Trace
from samebits.host.audit.checkpoint_audit import CheckpointAudit, refusals
from samebits.host.compare.ledger_diff import TENSOR_LISTS, Divergence, first_divergence
from samebits.host.compare.tensor_diff import Distance, TensorStore, tensor_distance
from samebits.host.console import log_progress
from samebits.host.runs.registry import checksum_of

RunWithRecord = tuple[RunDir, Record]
TrainAgain = Callable[[Trace, Path, Resumption | None], RunWithRecord]
"""Trains a recipe again with a trace, in a folder of runs, from a checkpoint or the beginning; returns the new run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of two runs to compare, and how its recipe is trained again."""

    run: RunWithRecord
    train: TrainAgain


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A tensor that differs: `kind` is input, output, gradient or variable; `layer` is where to look."""

    kind: str
    tensor: str
    layer: str
    distance: Distance | None = None

    def to_dict(self) -> dict[str, Any]:
        """The form in JSON."""
        distance = None if self.distance is None else self.distance.to_dict()
        return {"kind": self.kind, "tensor": self.tensor, "layer": self.layer, "distance": distance}

    def __str__(self) -> str:
        distance = "" if self.distance is None else f": {self.distance}"
        return f"{self.kind} {self.tensor} (layer {self.layer}){distance}"


_SINGULAR = {"outputs": "output", "gradients": "gradient", "variables": "variable"}
"""What one item of each list is."""


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
    starts = tuple(map(checkpoint_before, (one, other), divergence.numbers))
    if any(starts):
        begun = "; ".join(str(start.run.checkpoint) if start else "the beginning" for start in starts)
        log_progress(f"locating: starting at checkpoints: {begun}")
        try:
            return _locate_from((one, other), starts, divergence)
        except SamebitsError as error:
            log_progress(f"locating: starting at the beginning instead: {error}")
    return _locate_from((one, other), (None, None), divergence)


def _locate_from(
    sides: tuple[Side, Side], starts: Sequence[Resumption | None], divergence: Divergence
) -> DivergenceLocation:
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
            divergence = found
        else:
            others = []
        log_progress(f"locating: training both again to {divergence.where}, with every tensor of it")
        traced = _train_both(sides, starts, _window(divergence), Path(scratch) / "tensor")
        found = first_divergence(*traced)
        if any(starts):
            _require_same_step(divergence, found)
        return _with_note(_in_step(divergence, found, traced), others)


def _not_reproduced(
    sides: tuple[Side, Side],
    starts: Sequence[Resumption | None],
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
    sides: tuple[Side, Side], starts: Sequence[Resumption | None], trace: Trace, scratch: Path
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


def causes_in(divergence: Divergence, stores: tuple[TensorStore, TensorStore] | None = None) -> list[Cause]:
    """The tensors of the first list that differs: outputs as computed, gradients from the loss backwards.

    Each has its distance if its bytes are in the `stores`.
    """
    for kind in TENSOR_LISTS:
        lists = [(line or {}).get(kind) or [] for line in (divergence.one, divergence.other)]
        # Lists of different lengths come from different models; the common part is still useful.
        pairs = list(zip(*lists, strict=False))
        differing = [pair for pair in pairs if any(pair[0].get(name) != pair[1].get(name) for name in _TENSOR_KEYS)]
        # A variable without a gradient, such as a learning rate, is nearer to the cause.
        if kind == "variables":
            differing.sort(key=lambda pair: pair[0].get("group") != "optimizer" or bool(pair[0].get("shape")))
        if differing:
            causes = [_describe_cause(kind, one, other, stores) for one, other in differing]
            return causes[::-1] if kind == "gradients" else causes
    return []


_TENSOR_KEYS = ("dtype", "shape", "digest")
"""What decides whether two listed tensors are the same. Their names may differ."""


def _describe_cause(
    kind: str, one: Mapping[str, Any], other: Mapping[str, Any], stores: tuple[TensorStore, TensorStore] | None
) -> Cause:
    # A variable's path ends with its name; the layer is what comes before.
    path = str(one.get("layer") or one.get("path"))
    layer = path if "layer" in one else path.rpartition("/")[0] or path
    part = one.get("part")
    return Cause(
        kind=INPUT if part == INPUT else _SINGULAR[kind],
        tensor=path if part in {None, INPUT} else f"{path} {part}",
        layer=layer,
        distance=None if stores is None else tensor_distance(_tensor_of(one, path), _tensor_of(other, path), stores),
    )


def _tensor_of(item: Mapping[str, Any], path: str) -> TensorDescription:
    """The tensor that a ledger line lists."""
    return TensorDescription.from_fields(Fields({**item, "path": path}, path))
