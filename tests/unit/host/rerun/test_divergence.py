"""Locating a divergence: which windows are traced, and what is concluded from them."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samebits.core.digest import Digest
from samebits.core.errors import SamebitsError
from samebits.core.ledger import Ledger
from samebits.core.origin import ResumedRun
from samebits.core.record import FAILED, INTERRUPTED, Outcome, Record
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import Resumption
from samebits.core.trace_level import STEP, TENSOR, Trace
from samebits.host.rerun import divergence
from samebits.host.rerun.divergence import DivergenceLocation, RunWithRecord, Side, TrainAgain, locate

Line = dict[str, Any]


def _epoch(number: int, weights: str = "same", loss: str = "0x1.0p+0") -> Line:
    return {"event": "epoch", "fit": 0, "epoch": number, "metrics": {"loss": loss}, "tensors": {"trainable": weights}}


def _step(number: int, weights: str = "same", **lists: Any) -> Line:
    return {"event": "step", "fit": 0, "epoch": 1, "step": number, "tensors": {"trainable": weights}, **lists}


def _loop(number: int, weights: str = "same", loop: int = 0, **lists: Any) -> Line:
    return {"event": "step", "loop": loop, "step": number, "tensors": {"trainable": weights}, **lists}


def _tensor(values: Sequence[float], **about: str) -> Line:
    content = np.float32(values).tobytes()
    return {**about, "dtype": "float32", "shape": [len(values)], "digest": str(Digest.of_bytes(content))}


class Trainings:
    """Two sides with prepared runs; records which traces are requested."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.asked: list[Trace] = []
        self._folder = folder
        self._record = record
        self._numbers = iter(range(100))

    def ran(self, lines: list[Line], trace: Trace | None = None) -> RunWithRecord:
        run = RunDir(self._folder / str(next(self._numbers)))
        run.path.mkdir()
        with Ledger(run.ledger, self._record.recipe.digest) as ledger:
            for line in lines:
                ledger.append(line)
        return run, replace(self._record, trace=trace or Trace())

    def sides(self, *phases: tuple[list[Line], list[Line]]) -> tuple[TrainAgain, TrainAgain]:
        def side(number: int) -> TrainAgain:
            left: Iterator[tuple[list[Line], list[Line]]] = iter(phases)

            def train(trace: Trace, _runs: Path, _start: Resumption | None = None) -> RunWithRecord:
                self.asked.append(trace)
                return self.ran(next(left)[number], trace)

            return train

        return side(0), side(1)


@pytest.fixture
def trainings(tmp_path: Path, example: Record) -> Trainings:
    return Trainings(tmp_path, example)


def _located(trainings: Trainings, first: list[Line], second: list[Line], *phases: Any) -> DivergenceLocation:
    return _locate((trainings.ran(first), trainings.ran(second)), trainings.sides(*phases))


def _locate(compared: tuple[RunWithRecord, RunWithRecord], sides: tuple[TrainAgain, TrainAgain]) -> DivergenceLocation:
    one, other = (Side(run=run, train=train) for run, train in zip(compared, sides, strict=True))
    return locate(one, other)


_DIVERGED = ([_epoch(0), _epoch(1)], [_epoch(0), _epoch(1, "other")])
_STEPS = ([_epoch(0), _step(0), _step(1)], [_epoch(0), _step(0), _step(1, "other")])

_REPRODUCED = ([*_STEPS[0], _epoch(1)], [*_STEPS[1], _epoch(1, "other")])
"""As recorded, with a line for each step."""


def test_first_the_step_then_its_tensors(trainings: Trainings) -> None:
    kernel = [_tensor(values, path="m/a/kernel", group="trainable") for values in ([1, 2], [1, 3])]
    tensors = [[_step(1, weights, variables=[item])] for weights, item in zip(("same", "other"), kernel, strict=True)]
    found = _located(trainings, *_DIVERGED, _REPRODUCED, tensors)
    assert (
        trainings.asked == [Trace(level=STEP, fit=0, epoch=1)] * 2 + [Trace(level=TENSOR, fit=0, epoch=1, step=1)] * 2
    )
    assert (found.fit, found.loop, found.epoch, found.step) == (0, None, 1, 1)
    assert [(cause.kind, cause.tensor, cause.layer) for cause in found.causes] == [("variable", "m/a/kernel", "m/a")]
    assert found.lines() == ["diverges first at fit 0, epoch 1, step 1: variable m/a/kernel (layer m/a)"]


def test_trainings_that_are_not_those_recorded(trainings: Trainings) -> None:
    """Each training without seeds diverges at a place of its own, which is not that of the two runs."""
    tensors = [
        [_step(1, weights, outputs=[_tensor(values, layer="m")])] for weights, values in (("a", [1]), ("b", [2]))
    ]
    steps = [[_epoch(0), _step(0), _step(1, weights), _epoch(1, weights)] for weights in ("same", "new")]
    found = _located(trainings, *_DIVERGED, steps, tensors)
    assert "did not train as recorded: this place is of the new trainings" in found.lines()[1]
    assert found.note.count("-train-") == 1


def test_runs_that_were_traced_by_step_need_one_training(trainings: Trainings) -> None:
    pair = [trainings.ran(lines, Trace(level=STEP)) for lines in _STEPS]
    found = _locate((pair[0], pair[1]), trainings.sides(([_step(1)], [_step(1, "other")])))
    assert trainings.asked == [Trace(level=TENSOR, fit=0, epoch=1, step=1)] * 2
    assert found.note == "no value differs there, only tensors.trainable"


def test_a_loop_has_no_epochs(trainings: Trainings) -> None:
    ends = [[{"event": "end", "models": [name]}] for name in ("a", "b")]
    steps = [[_loop(0), _loop(1, weights)] for weights in ("same", "other")]
    tensors = [[_loop(1, outputs=[_tensor([value], layer="m/d")])] for value in (1.0, 2.0)]
    found = _located(trainings, *ends, steps, tensors)
    assert trainings.asked == [Trace(level=STEP)] * 2 + [Trace(level=TENSOR, loop=0, step=1)] * 2
    assert (found.loop, found.step, found.causes[0].layer) == (0, 1, "m/d")


def test_the_loop_is_asked_for_by_its_number(trainings: Trainings) -> None:
    steps = [[_loop(0), _loop(1), _loop(0, loop=1), _loop(1, weights, loop=1)] for weights in ("same", "other")]
    pair = [trainings.ran(lines, Trace(level=STEP)) for lines in steps]
    tensors = [[_loop(1, loop=1, outputs=[_tensor([value], layer="m/d")])] for value in (1.0, 2.0)]
    found = _locate((pair[0], pair[1]), trainings.sides((tensors[0], tensors[1])))
    assert trainings.asked == [Trace(level=TENSOR, loop=1, step=1)] * 2
    assert (found.loop, found.step, found.where) == (1, 1, "loop 1, step 1")


def test_what_comes_first_is_at_the_front(trainings: Trainings) -> None:
    """Input before outputs as they were computed, outputs before gradients, gradients from the loss backwards."""
    outputs = [
        [_tensor([value], layer="m", part="input"), _tensor([value], layer="m/a"), _tensor([1], layer="m/b")]
        for value in (1.0, 2.0)
    ]
    gradients = [[_tensor([value], path=f"m/{name}/kernel") for name in "abc"] for value in (1.0, 2.0)]
    both = [[_step(1, outputs=out, gradients=back)] for out, back in zip(outputs, gradients, strict=True)]
    found = _located(trainings, *_DIVERGED, _STEPS, both)
    assert [(cause.kind, cause.layer) for cause in found.causes] == [("input", "m"), ("output", "m/a")]
    backwards = [[_step(1, outputs=outputs[0], gradients=back)] for back in gradients]
    found = _located(trainings, *_DIVERGED, _STEPS, backwards)
    assert [(cause.kind, cause.layer) for cause in found.causes] == [("gradient", f"m/{name}") for name in "cba"]


def test_what_is_no_step(trainings: Trainings) -> None:
    """Metrics alone, as of a validation; nothing at all, the second time; and output files, which are in no ledger."""
    metrics = ([_epoch(0), _epoch(1)], [_epoch(0), _epoch(1, loss="0x1.1p+0")])
    traced = [[_epoch(0), _step(0), line[1]] for line in metrics]
    found = _located(trainings, *metrics, traced)
    assert found.note == "no step differs, only metrics.loss: look at validation and callbacks"
    assert (found.epoch, found.step) == (1, None)
    found = _located(trainings, *_DIVERGED, (_STEPS[0], _STEPS[0]))
    assert found.note.startswith("trained again twice, the two agree: this machine reproduces the training; ")
    assert found.lines()[0].startswith("diverges at fit 0, epoch 1: trained again twice")
    found = _located(trainings, *_DIVERGED, _STEPS, ([_step(1)], [_step(1)]))
    assert found.note == "trained again, the two agree there: each training diverges at another place"
    asked = len(trainings.asked)
    found = _located(trainings, _DIVERGED[0], _DIVERGED[0])
    assert found.lines() == [
        "not located: the ledgers agree: the difference came after the last epoch, or is in an output file"
    ]
    assert len(trainings.asked) == asked


def test_distances_of_what_was_kept(trainings: Trainings) -> None:
    values = [np.float32([1, 2, 3]), np.float32([1, 2, 4])]
    lines = [[_step(1, weights, variables=[_tensor(list(value), path="m/a/bias")])]
             for weights, value in zip(("same", "other"), values, strict=True)]  # fmt: skip
    pair = [trainings.ran(line, Trace(level=TENSOR, fit=0, epoch=1, step=1)) for line in lines]
    for (run, _), value in zip(pair, values, strict=True):
        run.tensors.mkdir()
        (run.tensors / Digest.of_bytes(value.tobytes()).hex).write_bytes(value.tobytes())
    known = [trainings.ran(line, Trace(level=TENSOR)) for line in lines]
    found = _locate((known[0], known[1]), (lambda *_: pair[0], lambda *_: pair[1]))
    (line,) = found.lines()
    assert line.startswith("diverges first at fit 0, epoch 1, step 1: variable m/a/bias (layer m/a): ")
    assert line.endswith("1 of 3 values differ, by 1 at most, 4194304 ULPs")
    assert found.to_dict()["causes"][0]["distance"] == {
        "absolute": "0x1.0000000000000p+0", "ulps": 2**22, "differing": 1, "elements": 3
    }  # fmt: skip


def test_trainings_that_went_otherwise_are_not_compared(trainings: Trainings) -> None:
    """An older samebits that knows no trace, and a training that failed, agree with anything."""
    compared = trainings.ran(_DIVERGED[0]), trainings.ran(_DIVERGED[1])
    untraced = trainings.ran(_STEPS[0])
    with pytest.raises(SamebitsError, match=r" was recorded by cannot trace single steps$"):
        _locate(compared, (lambda *_: untraced, lambda *_: untraced))
    window = Trace(level=STEP, fit=0, epoch=1)
    run, record = trainings.ran([], window)
    failed = run, replace(record, result=None, outcome=Outcome(state=FAILED, message="no"))
    with pytest.raises(SamebitsError, match=r"^trained again, it ended differently: failed: no$"):
        _locate(compared, (lambda *_: failed, lambda *_: failed))
    stopped = run, replace(record, outcome=Outcome(state=INTERRUPTED, message=window.message))
    assert _locate(compared, (lambda *_: stopped, lambda *_: stopped)).note.startswith("trained again twice")


_FROM_CHECKPOINT = [([_epoch(0), _step(0), _step(1), _epoch(1)],
                     [_epoch(0), _step(0), _step(1, "other"), _epoch(1, "other")]),
                    ([_epoch(0), _step(1)], [_epoch(0), _step(1, "other")])]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "tries"),
    [
        (lambda _: None, 2),
        # The epoch trains otherwise than recorded: its state was not all in the checkpoint.
        (lambda lines: lines[0][1].__setitem__(3, _epoch(1, "third")), 3),
        # The run ends before the line that differs.
        (lambda lines: lines[0][0].pop(), 3),
        # With every tensor, the step is another than with a line alone.
        (lambda lines: lines[1][1].__setitem__(1, _step(1, "third")), 4),
        # Its values are by another hash, which proves nothing against it.
        (lambda lines: lines[1][1].__setitem__(1, _step(1, "sha256:third")), 2),
        # With every tensor, no step differs.
        (lambda lines: lines[1][1].__setitem__(1, lines[1][0][1]), 4),
    ],
)
def test_a_start_at_a_checkpoint_must_reproduce_what_was_recorded(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], object], tries: int
) -> None:
    lines = copy.deepcopy(_FROM_CHECKPOINT)
    change(lines)
    one, other = trainings.ran(_DIVERGED[0]), trainings.ran(_DIVERGED[1])
    start = Resumption(run=ResumedRun(id="a", checksum="b"), ledger=one[0].ledger, size=0, store=one[0].checkpoints)
    monkeypatch.setattr(divergence, "checkpoint_before", lambda _side, number: start if number == 2 else None)
    # What the trainings from the beginning find, after those from the checkpoint.
    whole = [_STEPS, ([_epoch(0), _step(1)], [_epoch(0), _step(1, "other")])]
    found = _locate((one, other), trainings.sides(*lines[: tries - (2 if tries > 2 else 0)], *whole))
    assert (found.fit, found.epoch, found.step) == (0, 1, 1)
    assert len(trainings.asked) == 2 * tries


@pytest.mark.parametrize(("step", "tries"), [("other", 2), ("third", 3)])
def test_the_second_training_begins_where_the_first_one_left_a_checkpoint(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch, step: str, tries: int
) -> None:
    """It must come to the step that the first one found; else it is done again from the beginning."""
    tensors = ([_epoch(0), _step(1)], [_epoch(0), _step(1, step)])
    again = ([_epoch(0), _step(1)], [_epoch(0), _step(1, "other")])
    one, other = trainings.ran(_DIVERGED[0]), trainings.ran(_DIVERGED[1])
    left = Resumption(run=ResumedRun(id="a", checksum="b"), ledger=one[0].ledger, size=0, store=one[0].checkpoints)
    asked: list[int | None] = []
    begun: list[Resumption | None] = []

    def before(side: Side, number: int | None) -> Resumption | None:
        asked.append(number)
        return None if side.run in (one, other) else left

    monkeypatch.setattr(divergence, "checkpoint_before", before)
    trains = trainings.sides(_REPRODUCED, tensors, again)

    def noting(number: int) -> TrainAgain:
        def train(trace: Trace, runs: Path, start: Resumption | None) -> RunWithRecord:
            begun.append(start)
            return trains[number](trace, runs, start)

        return train

    found = _locate((one, other), (noting(0), noting(1)))
    assert (found.fit, found.epoch, found.step) == (0, 1, 1)
    # The epoch's line of the runs is the second one, and the step's line the third one of what was traced.
    assert asked == [2, 2, 3, 3]
    assert begun == [None, None, left, left, None, None][: 2 * tries]
