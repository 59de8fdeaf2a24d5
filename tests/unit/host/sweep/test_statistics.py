"""The numbers of a summary: against tables, in any order, and where there are none."""

import itertools
import math

import pytest

from samebits.host.sweep.statistics import MetricSummary, describe, summarize, t_quantile


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    # SciPy's `t.ppf(0.975, freedom)`.
    [
        (1, 12.706205),
        (2, 4.302653),
        (3, 3.182446),
        (4, 2.776445),
        (9, 2.262157),
        (29, 2.04523),
        (30, 2.042272),
        (99, 1.984217),
        (1000, 1.962339),
    ],
)
def test_students_t(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == quantile


def test_the_usual_numbers() -> None:
    found = describe([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert (found["mean"], found["minimum"], found["maximum"]) == (5.0, 2.0, 9.0)
    # The sample's deviation divides by n - 1: the sum of squares is 32.
    assert found["sd"] == math.sqrt(32 / 7)
    half = 2.364624 * math.sqrt(32 / 7) / math.sqrt(8)
    assert (found["low"], found["high"]) == (5.0 - half, 5.0 + half)


def test_the_order_of_runs_changes_no_bit() -> None:
    values = [0.1, 1e16, -1e16, 0.3, 1e-9]
    assert len({tuple(describe(list(order)).items()) for order in itertools.permutations(values)}) == 1


def test_one_run_has_no_deviation() -> None:
    found = describe([3.0])
    assert (found["mean"], found["sd"], found["low"]) == (3.0, None, None)


def test_what_no_float_can_hold() -> None:
    found = describe([1.7e308, -1.7e308])
    assert (found["mean"], found["sd"], found["low"], found["high"]) == (0.0, None, None, None)


def test_runs_that_diverged_or_lack_a_metric_are_named() -> None:
    runs = {
        "seed 0": {(0, "loss"): (1.0).hex(), (0, "acc"): (0.5).hex()},
        "seed 1": {(0, "loss"): "nan", (0, "acc"): (0.7).hex()},
        "seed 2": {(0, "loss"): "many"},
    }
    acc, loss = summarize(runs)
    assert (acc.n, acc.missing, acc.mean) == (2, ("seed 2",), 0.6)
    assert loss == MetricSummary(fit=0, name="loss", n=3, not_finite=("seed 1", "seed 2"))
