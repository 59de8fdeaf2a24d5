"""The verdict on two runs at each level."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from samebits.core.errors import InputError
from samebits.core.record import FAILED, RUNNING, Outcome, Record
from samebits.core.result import LAUNCHER, PROCESS, Coverage, Measured, Result
from samebits.host.compare.verdict import (
    DIFFERENT,
    EQUIVALENT,
    IDENTICAL,
    NO_METRICS,
    NOT_COMPARABLE,
    Tolerance,
    check_metrics,
    judge_runs,
)
from support.records import with_result

_LOSS = "0x1.0p+0"


@pytest.fixture
def one(example: Record) -> Record:
    """A record with one metric, whose final value is 1."""
    return _with_history(example, {"loss": ["0x1.8p+1", _LOSS]})


def _with_history(record: Record, history: dict[str, list[str]]) -> Record:
    fits = [{"model": 0, "epochs": 2, "history": history}]
    return with_result(record, lambda result: result.update(fits=fits))


def _ended_at(value: float | str) -> Callable[[Record], Record]:
    text = value if isinstance(value, str) else value.hex()
    return lambda record: _with_history(record, {"loss": ["0x1.8p+1", text]})


ROWS: dict[str, tuple[Callable[[Record], Record], dict[str, str]]] = {
    "the same": (lambda record: record, {"bitwise": IDENTICAL, "metrics": IDENTICAL, "documented": IDENTICAL}),
    "a little off": (_ended_at(1.0005), {"bitwise": DIFFERENT, "metrics": EQUIVALENT, "documented": EQUIVALENT}),
    "far off": (_ended_at(1.1), {"bitwise": DIFFERENT, "metrics": DIFFERENT, "documented": EQUIVALENT}),
    "NaN": (_ended_at("nan"), {"bitwise": DIFFERENT, "metrics": DIFFERENT, "documented": EQUIVALENT}),
    "another metric": (
        lambda record: _with_history(record, {"mae": [_LOSS]}),
        {"bitwise": DIFFERENT, "metrics": DIFFERENT, "documented": EQUIVALENT},
    ),
    "failed by its script": (
        lambda record: replace(record, result=None, outcome=Outcome(state=FAILED, exit_status=1)),
        {"bitwise": DIFFERENT, "metrics": DIFFERENT, "documented": DIFFERENT},
    ),
    "failed by something else": (
        lambda record: replace(record, result=None, outcome=Outcome(state=FAILED, message="killed")),
        {"bitwise": NOT_COMPARABLE, "metrics": NOT_COMPARABLE, "documented": NOT_COMPARABLE},
    ),
    "running": (
        lambda record: replace(record, result=None, outcome=Outcome(state=RUNNING)),
        {"bitwise": NOT_COMPARABLE, "metrics": NOT_COMPARABLE, "documented": NOT_COMPARABLE},
    ),
}


@pytest.mark.parametrize("level", ["bitwise", "metrics", "documented"])
@pytest.mark.parametrize("row", ROWS)
def test_judge(one: Record, row: str, level: str) -> None:
    change, expected = ROWS[row]
    verdict = judge_runs(one, change(one), level, Tolerance())
    assert verdict.kind == expected[level]
    assert bool(verdict.reasons) == (verdict.kind != IDENTICAL)
    assert verdict.exit_status == {IDENTICAL: 0, EQUIVALENT: 0, DIFFERENT: 1, NOT_COMPARABLE: 3}[verdict.kind]


def test_a_run_without_a_result_is_no_measure(one: Record) -> None:
    failed = replace(one, result=None, outcome=Outcome(state=FAILED))
    verdict = judge_runs(failed, one, "bitwise", Tolerance())
    assert (verdict.kind, verdict.exit_status) == (NOT_COMPARABLE, 3)
    assert verdict.reasons == (f"the run {one.id} has no result: failed",)


def test_every_metric_beyond_is_named(one: Record) -> None:
    before = _with_history(one, {"loss": [_LOSS], "mae": ["0x1.0p+1"], "same": [_LOSS], "word": ["x"]})
    after = _with_history(one, {"loss": ["0x1.8p+0"], "mae": ["0x1.8p+1"], "same": [_LOSS], "word": ["y"]})
    assert judge_runs(before, after, "metrics", Tolerance()).reasons == (
        "fit 0, loss: 1 and 1.5 differ by 0.5",
        "fit 0, mae: 2 and 3 differ by 1",
        "fit 0, word: x and y are not numbers",
    )


def test_not_a_number_is_as_good_as_itself(one: Record) -> None:
    before, after = (_with_history(one, {"loss": ["nan"], "x": [text]}) for text in ("0x1.0p+0", "0x1.0001p+0"))
    assert judge_runs(before, after, "metrics", Tolerance()).kind == EQUIVALENT


@pytest.mark.parametrize(
    ("rel", "absolute", "kind"),
    [
        (["0.2"], [], EQUIVALENT),
        (["0.05"], [], DIFFERENT),
        (["0.05", "loss=0.2"], [], EQUIVALENT),
        (["0.2", "loss=0.05"], [], DIFFERENT),
        (["0"], ["0.11"], EQUIVALENT),
        (["0"], ["0.09"], DIFFERENT),
        (["0"], ["loss=0.11"], EQUIVALENT),
    ],
)
def test_tolerances(one: Record, rel: list[str], absolute: list[str], kind: str) -> None:
    assert judge_runs(one, _ended_at(1.1)(one), "metrics", Tolerance.parse(rel, absolute)).kind == kind


@pytest.mark.parametrize("text", ["", "x", "loss=", "-1", "nan", "inf", "loss=-0.1"])
def test_what_is_no_tolerance(text: str) -> None:
    with pytest.raises(InputError, match=r"^--rel takes a number from 0 on, or METRIC=NUMBER, not "):
        Tolerance.parse([text], [])


def test_what_a_tolerance_is_not_for(one: Record) -> None:
    given = Tolerance.parse(["auc=1"], [])
    with pytest.raises(InputError) as caught:
        check_metrics(one, "metrics", given)
    assert str(caught.value) == f"the run {one.id} has no metric 'auc'; there are loss"
    with pytest.raises(InputError, match=r"^--rel and --abs are for the level metrics, and this is bitwise; "):
        check_metrics(one, "bitwise", given)
    check_metrics(one, "bitwise", Tolerance())
    check_metrics(one, "metrics", Tolerance.parse(["1", "loss=2"], ["0.1"]))


def _without_fits(result: dict[str, Any], x: int) -> None:
    result.update(fits=[], x=x)


def test_results_that_say_nothing(one: Record) -> None:
    """Results without metrics, and empty results."""
    before, after = (with_result(one, partial(_without_fits, x=x)) for x in (1, 2))
    assert judge_runs(before, after, "metrics", Tolerance()).reasons == (NO_METRICS,)
    empty = replace(one, result=Result())
    for level, kind in (("bitwise", NOT_COMPARABLE), ("metrics", NOT_COMPARABLE), ("documented", IDENTICAL)):
        assert judge_runs(empty, empty, level, Tolerance()).kind == kind


_FILE = {"path": "done.txt", "by": "bytes", "digest": "sha256:" + "0" * 64}


def _of_files(record: Record, discarded: int | None) -> Record:
    """A record whose result covers one file alone, of a script that discarded so many layers."""
    record = with_result(record, lambda result: result.update(models=[], fits=[], outputs=[_FILE]))
    return replace(record, coverage=None if discarded is None else Coverage(discarded=discarded))


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [(None, None, IDENTICAL), (0, 0, IDENTICAL), (0, 2, NOT_COMPARABLE), (2, 0, NOT_COMPARABLE)],
)
def test_files_alone_show_nothing_about_models(one: Record, before: int | None, after: int | None, kind: str) -> None:
    records = _of_files(one, before), _of_files(one, after)
    verdict = judge_runs(*records, "bitwise", Tolerance())
    assert verdict.kind == kind
    assert verdict.line == ("identical: 1 file (no Keras model)" if kind == IDENTICAL else kind)
    assert bool(verdict.reasons) == (kind != IDENTICAL)
    assert judge_runs(*records, "documented", Tolerance()).kind == IDENTICAL


def test_what_equal_results_cover(one: Record) -> None:
    tensor = {"path": "weight", "dtype": "float32", "shape": [1], "digest": _FILE["digest"]}
    model = {"name": "m", "how": "fit", "tensors": {}, "digest": _FILE["digest"]}
    bare = {**model, "how": "variables", "tensors": {"variables": [tensor, tensor]}}
    covered = with_result(one, lambda result: result.update(models=[model, model, bare], outputs=[_FILE]))
    text = "identical: 2 models, 2 variables without a model, 1 file"
    assert judge_runs(covered, covered, "bitwise", Tolerance()).line == text
    discarding = replace(covered, coverage=Coverage(discarded=1))
    for pair in ((covered, discarding), (discarding, covered)):
        line = judge_runs(*pair, "bitwise", Tolerance()).line
        assert line == f"{text}; not covered: 1 layer that the script discarded"


def test_output_files_alone_are_named(one: Record) -> None:
    """A log with a time in it must not read as a training that does not repeat."""
    files = [{"path": name, "by": "bytes", "digest": f"sha256:{'0' * 64}"} for name in ("a.txt", "log.csv")]
    before = with_result(one, lambda result: result.update(outputs=files))
    changed = [files[0], files[1] | {"digest": f"sha256:{'1' * 64}"}]
    after = with_result(one, lambda result: result.update(outputs=changed))
    hint = "those that hold a time or a host name are left out with `samebits train --ignore-output`;"
    hint += ' see "Plots that repeat" in the documentation'
    assert judge_runs(before, after, "bitwise", Tolerance()).reasons == (f"only output files differ: log.csv; {hint}",)
    other = _ended_at(1.1)(after)
    assert judge_runs(before, other, "bitwise", Tolerance()).reasons == ("the result digests differ",)


@pytest.mark.parametrize(
    ("sides", "kind"),
    [
        ([(LAUNCHER, ()), (LAUNCHER, ())], IDENTICAL),
        ([(LAUNCHER, ("model 0 (m)",)), (LAUNCHER, ("model 0 (m)",))], IDENTICAL),
        ([(LAUNCHER, ()), (LAUNCHER, ("model 0 (m)",))], NOT_COMPARABLE),
        ([(LAUNCHER, ("model 0 (m)",)), (LAUNCHER, ())], NOT_COMPARABLE),
        ([(PROCESS, ()), (LAUNCHER, ("model 0 (m)",))], IDENTICAL),
        ([None, (LAUNCHER, ())], IDENTICAL),
    ],
)
def test_what_was_measured_in_one_run_only(
    sides: list[tuple[str, tuple[str, ...]] | None], kind: str, example: Record
) -> None:
    """A script can claim any digest of what its launcher cannot measure."""
    records = [
        replace(example, measured=None if side is None else Measured(by=side[0], claimed=side[1])) for side in sides
    ]
    verdict = judge_runs(records[0], records[1], "bitwise", Tolerance())
    assert verdict.kind == kind
    if kind == NOT_COMPARABLE:
        assert verdict.reasons == ("measured in one run, and only claimed in the other: model 0 (m)",)
