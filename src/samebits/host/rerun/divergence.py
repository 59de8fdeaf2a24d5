"""Where two trainings first part: run again with a finer trace, and only as far as that is needed.

First with a line per step, in the epoch from which the ledgers part; then with every tensor of that one step. Each of
these runs ends with its window, and is thrown away.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.errors import SamebitsError, shorten
from samebits.core.jsonio import Fields
from samebits.core.record import FINISHED, Record
from samebits.core.result import TensorDescription
from samebits.core.run_dir import RunDir
from samebits.core.trace_level import INPUT, STEP, TENSOR, Trace
from samebits.host.compare.ledger_diff import LISTS, Divergence, first_divergence
from samebits.host.compare.tensor_diff import Distance, TensorStore, tensor_distance
from samebits.host.console import log

RunWithRecord = tuple[RunDir, Record]
TrainAgain = Callable[[Trace, Path], RunWithRecord]
"""Trains a recipe again with a trace, in a folder of runs, and returns that run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """One tensor that parts: `kind` is input, output, gradient or variable; its layer is the one to look at."""

    kind: str
    tensor: str
    layer: str
    distance: Distance | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        far = None if self.distance is None else self.distance.to_dict()
        return {"kind": self.kind, "tensor": self.tensor, "layer": self.layer, "distance": far}

    def __str__(self) -> str:
        far = "" if self.distance is None else f": {self.distance}"
        return f"{self.kind} {self.tensor} (layer {self.layer}){far}"


_SINGULAR = {"outputs": "output", "gradients": "gradient", "variables": "variable"}
"""What is listed under these names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """The place, as far as it was found; `causes` are all tensors that part there, the first to part at the front."""

    where: str = ""
    fit: int | None = None
    loop: int | None = None
    epoch: int | None = None
    step: int | None = None
    causes: tuple[Cause, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "fit": self.fit,
            "loop": self.loop,
            "epoch": self.epoch,
            "step": self.step,
            "causes": [cause.to_dict() for cause in self.causes],
            "note": self.note,
        }

    def lines(self) -> list[str]:
        """For people."""
        if not self.causes:
            return [f"parts at {self.where}: {self.note}" if self.where else f"not located: {self.note}"]
        more = [f"    also {cause}" for cause in self.causes[1:]]
        return [f"parts first at {self.where}: {self.causes[0]}", *more]


def locate(compared: tuple[RunWithRecord, RunWithRecord], sides: tuple[TrainAgain, TrainAgain]) -> Location:
    """Name epoch, step, tensor and layer from which two runs part, where training them again parts them again."""
    parting = first_divergence(*compared)
    if parting is None:
        return Location(note="the ledgers agree: what differs came after the last epoch, or is an output file")
    with tempfile.TemporaryDirectory(prefix="samebits-locate-") as scratch:
        if parting.place("step") is None:
            window = Trace(level=STEP, fit=parting.place("fit"), epoch=parting.place("epoch"))
            log(f"locating: training both again to {parting.where}, with a line for each step")
            found = first_divergence(*_again(sides, window, Path(scratch) / "step"))
            if found is None or found.place("step") is None:
                return _not_in_a_step(parting, found)
            parting = found
        log(f"locating: training both again to {parting.where}, with every tensor of it")
        return _in_step(parting, _again(sides, _window(parting), Path(scratch) / "tensor"))


def _again(sides: tuple[TrainAgain, TrainAgain], trace: Trace, scratch: Path) -> tuple[RunWithRecord, RunWithRecord]:
    """Both sides with a trace; raises SamebitsError where one was not trained, or not traced, as asked."""
    ran = sides[0](trace, scratch / "one"), sides[1](trace, scratch / "other")
    for _, record in ran:
        if record.trace != trace:
            raise SamebitsError(f"the samebits that {record.id} was recorded by cannot trace single {trace.level}s")
        ended = record.outcome
        if ended.state != FINISHED and not (trace.has_window and ended.message == trace.message):
            raise SamebitsError(f"trained again, it ended otherwise: {ended.state}: {ended.message}")
    return ran


def _window(parting: Divergence) -> Trace:
    places = {name: parting.place(name) for name in ("fit", "epoch", "step", "loop")}
    return Trace(level=TENSOR, **places)


def _placed(parting: Divergence, *, causes: tuple[Cause, ...] = (), note: str = "") -> Location:
    return Location(
        where=parting.where,
        fit=parting.place("fit"),
        loop=parting.place("loop"),
        epoch=parting.place("epoch"),
        step=parting.place("step"),
        causes=causes,
        note=note,
    )


def _not_in_a_step(parting: Divergence, found: Divergence | None) -> Location:
    """The weights agree after every step of that epoch, the second time."""
    if found is None:
        return _placed(
            parting,
            note="trained again twice, the two agree: this machine repeats the training, and what it was compared with"
            " was made under conditions that its recipe does not tell",
        )
    names = ", ".join(name for name, _, _ in found.differences()) or "one has ended there"
    return _placed(found, note=f"no step of it differs, only {names}: look at validation and callbacks")


def _in_step(parting: Divergence, traced: tuple[RunWithRecord, RunWithRecord]) -> Location:
    found = first_divergence(*traced)
    if found is None or found.one is None or found.other is None:
        return _placed(parting, note="trained again, the two agree there: each training parts at another place")
    causes = causes_in(found, (TensorStore(traced[0][0]), TensorStore(traced[1][0])))
    names = shorten([name for name, _, _ in found.differences()], 3)
    return _placed(found, causes=tuple(causes), note="" if causes else f"no value differs there, only {names}")


def causes_in(parting: Divergence, kept: tuple[TensorStore, TensorStore] | None = None) -> list[Cause]:
    """The tensors of the first list that differs: outputs as they were computed, gradients from the loss backwards.

    How far they are apart is told where their bytes were `kept`.
    """
    for kind in LISTS:
        lists = [(line or {}).get(kind) or [] for line in (parting.one, parting.other)]
        pairs = list(zip(*lists, strict=False))
        differing = [pair for pair in pairs if any(pair[0].get(name) != pair[1].get(name) for name in _VALUE)]
        if kind == "variables":  # what no gradient reaches, as a learning rate, is nearer to the cause
            differing.sort(key=lambda pair: pair[0].get("group") != "optimizer" or bool(pair[0].get("shape")))
        if differing:
            causes = [_cause(kind, one, other, kept) for one, other in differing]
            return causes[::-1] if kind == "gradients" else causes
    return []


_VALUE = ("dtype", "shape", "digest")
"""What makes two listed tensors the same; their names do not."""


def _cause(
    kind: str, one: Mapping[str, Any], other: Mapping[str, Any], kept: tuple[TensorStore, TensorStore] | None
) -> Cause:
    path = str(one.get("layer") or one.get("path"))
    layer = path if "layer" in one else path.rpartition("/")[0] or path
    part = one.get("part")
    return Cause(
        kind=INPUT if part == INPUT else _SINGULAR[kind],
        tensor=path if part in {None, INPUT} else f"{path} {part}",
        layer=layer,
        distance=None if kept is None else tensor_distance(_described(one, path), _described(other, path), kept),
    )


def _described(item: Mapping[str, Any], path: str) -> TensorDescription:
    """A tensor that a ledger's line lists."""
    return TensorDescription.from_fields(Fields({**item, "path": path}, path))
