"""Statistics of the final metrics of several runs.

Means and deviations are exact sums, rounded once. They depend neither on the order of the runs nor on the machine.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.jsonio import Fields

CONFIDENCE = 0.95
METHOD = "mean ± t·sd/√n, Student's t"
_DIGITS = 6  # of a quantile: the functions of C libraries differ in the last bits

Metric = tuple[int, str]
"""The number of the `fit`, and the name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricSummary:
    """One metric over the runs of a group: `n` of them have it; `low` and `high` bound the confidence interval.

    Every number is None where a value is not finite, and those that need two runs where there is one. `missing` and
    `not_finite` name runs.
    """

    fit: int
    name: str
    n: int
    mean: float | None = None
    sd: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    low: float | None = None
    high: float | None = None
    missing: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The form in `sweep.json`."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        interval = {"confidence": CONFIDENCE, "method": METHOD}
        names = {"missing": list(self.missing), "not_finite": list(self.not_finite)}
        return {"fit": self.fit, "name": self.name, "n": self.n, **numbers, **interval, **names}

    @classmethod
    def from_fields(cls, fields: Fields) -> "MetricSummary":
        """Read what `to_dict` wrote."""
        return cls(
            fit=fields.get("fit", int),
            name=fields.get("name", str),
            n=fields.get("n", int),
            **{name: fields.optional(name, float) for name in _NUMBERS},
            missing=fields.texts("missing"),
            not_finite=fields.texts("not_finite"),
        )


_NUMBERS = ("mean", "sd", "minimum", "maximum", "low", "high")


def summarize(runs: Mapping[str, Mapping[Metric, str]]) -> tuple[MetricSummary, ...]:
    """A summary of each metric; `runs` holds by the name of a run its final metrics as exact text."""
    metrics = sorted({metric for values in runs.values() for metric in values})
    return tuple(_summary(metric, runs) for metric in metrics)


def _summary(metric: Metric, runs: Mapping[str, Mapping[Metric, str]]) -> MetricSummary:
    fit, name = metric
    values = {run: _number(found[metric]) for run, found in runs.items() if metric in found}
    missing = tuple(run for run in runs if run not in values)
    not_finite = tuple(run for run, value in values.items() if not math.isfinite(value))
    # A mean without the runs that diverged would be a better number than the script deserves.
    numbers = {} if not_finite else describe(list(values.values()))
    return MetricSummary(fit=fit, name=name, n=len(values), **numbers, missing=missing, not_finite=not_finite)


def _number(text: str) -> float:
    """The value of a metric; NaN for one that is no number."""
    try:
        return float.fromhex(text)
    except (ValueError, OverflowError):
        return math.nan


def describe(values: list[float]) -> dict[str, float | None]:
    """Mean, sample standard deviation, minimum, maximum and confidence interval of the mean of finite values."""
    found: dict[str, float | None] = dict.fromkeys(_NUMBERS)
    mean = float(statistics.mean(values))
    found |= {"mean": mean, "minimum": min(values), "maximum": max(values)}
    if len(values) > 1:
        sd = _deviation(values)
        half = t_quantile(len(values) - 1) * sd / math.sqrt(len(values))
        found |= {"sd": sd, "low": mean - half, "high": mean + half}
    # Of values near the largest float, some of these are none.
    return {name: value if value is not None and math.isfinite(value) else None for name, value in found.items()}


def _deviation(values: list[float]) -> float:
    try:
        return statistics.stdev(values)
    except OverflowError:
        return math.inf


def t_quantile(freedom: int) -> float:
    """The number that Student's t with `freedom` degrees of freedom exceeds on either side with 1 - CONFIDENCE."""
    low, high = 0.0, math.pi / 2
    # Bisection of the angle, as its tangent has no upper bound.
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < CONFIDENCE else (low, middle)
    return round(math.tan(low) * math.sqrt(freedom), _DIGITS)


def _within(angle: float, freedom: int) -> float:
    """The probability of |t| <= sqrt(freedom) tan(angle): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, terms = (cosine if odd else 1.0), []
    for number in range(1 + odd, freedom - 1, 2):
        terms.append(term)
        term *= cosine * cosine * number / (number + 1)
    total = math.fsum([*terms, *([term] if freedom > 1 else [])])
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
