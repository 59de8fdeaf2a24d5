"""What may be said of two runs at a goal: identical, equivalent, different, or not comparable."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from samebits.core.errors import EXIT_DIFFERENT, EXIT_NOT_COMPARABLE, EXIT_OK, InputError
from samebits.core.record import FAILED, Record
from samebits.core.run_config import BITWISE, DOCUMENTED, METRICS

IDENTICAL = "identical"
EQUIVALENT = "equivalent"
DIFFERENT = "different"
NOT_COMPARABLE = "not comparable"

NOTHING = "the result holds nothing: no Keras model was trained, and no output file was written"
NO_METRICS = "the run has no metrics; verify with --goal bitwise"

REL = 1e-3
"""What a number in a table can differ by, where its reader is told three digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """`word` is one of the four; `reasons` is one line each, and complete."""

    word: str
    goal: str
    reasons: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """Like diff's, with one more for what cannot be compared."""
        return {DIFFERENT: EXIT_DIFFERENT, NOT_COMPARABLE: EXIT_NOT_COMPARABLE}.get(self.word, EXIT_OK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """How far a metric's final value may be off: by `rel` of the larger of the two, or by `abs`; "" stands for all."""

    rel: Mapping[str, float] = field(default_factory=lambda: {"": REL})
    abs: Mapping[str, float] = field(default_factory=lambda: {"": 0.0})

    @classmethod
    def parse(cls, rel: list[str], absolute: list[str]) -> "Tolerance":
        """From `VALUE` or `METRIC=VALUE`; raises InputError."""
        return cls(rel={"": REL} | _parsed("--rel", rel), abs={"": 0.0} | _parsed("--abs", absolute))

    def close(self, name: str, one: float, other: float) -> bool:
        """Whether two values of the metric `name` are equal within the tolerance; NaN is equal to NaN."""
        if math.isnan(one) and math.isnan(other):
            return True
        rel, absolute = (given.get(name, given[""]) for given in (self.rel, self.abs))
        return math.isclose(one, other, rel_tol=rel, abs_tol=absolute)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """As a verification holds it."""
        return {"rel": dict(self.rel), "abs": dict(self.abs)}


def _parsed(option: str, words: list[str]) -> dict[str, float]:
    found = {}
    for word in words:
        name, _, text = word.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(f"{option} takes a number from 0 on, or METRIC=NUMBER, not {word!r}")
        found[name] = value
    return found


def judge_runs(one: Record, other: Record, goal: str, tolerance: Tolerance) -> Verdict:
    """The verdict on `other`, where `one` is what should have come out."""
    if one.result is None or other.result is None:
        return _without_result(one, other, goal)
    if goal != DOCUMENTED and one.holds_nothing and other.holds_nothing:
        return not_comparable(goal, [NOTHING])
    if one.result_digest == other.result_digest:
        return Verdict(word=IDENTICAL, goal=goal)
    if goal == BITWISE:
        return Verdict(word=DIFFERENT, goal=goal, reasons=("the result digests differ",))
    if goal == DOCUMENTED:
        return Verdict(word=EQUIVALENT, goal=goal, reasons=("it ran to its end again; the result digests differ",))
    return _by_metrics(one, other, tolerance)


def _without_result(one: Record, other: Record, goal: str) -> Verdict:
    """Only a script that failed by itself came out differently; whatever else ended a run tells nothing."""
    missing = one if one.result is None else other
    reasons = [f"the run {missing.id} has no result: {_ended(missing)}"]
    if missing is other and _by_its_script(other):
        return Verdict(word=DIFFERENT, goal=goal, reasons=tuple(reasons))
    return not_comparable(goal, reasons)


def not_comparable(goal: str, reasons: list[str]) -> Verdict:
    """The verdict where nothing can be said."""
    return Verdict(word=NOT_COMPARABLE, goal=goal, reasons=tuple(reasons))


def _ended(record: Record) -> str:
    """How a run without a result ended."""
    outcome = record.outcome
    return outcome.state if outcome.message is None else f"{outcome.state}: {outcome.message}"


def _by_its_script(record: Record) -> bool:
    """Whether a run failed by its script, which is a way to come out; all else happened to it."""
    return record.outcome.state == FAILED and record.outcome.exit_status is not None


def check_metrics(record: Record, goal: str, tolerance: Tolerance) -> None:
    """Raise InputError where tolerances are given for what this run, or this goal, does not know."""
    given = tolerance.rel.keys() | tolerance.abs.keys()
    if goal != METRICS and tolerance != Tolerance():
        raise InputError(f"--rel and --abs are for the goal {METRICS}, and this is {goal}; add --goal {METRICS}")
    known = {name for _, name in record.final_metrics}
    unknown = sorted(given - known - {""})
    if unknown:
        there = f"there are {', '.join(sorted(known))}" if known else "it has none"
        raise InputError(f"the run {record.id} has no metric {unknown[0]!r}; {there}")


def _by_metrics(one: Record, other: Record, tolerance: Tolerance) -> Verdict:
    before, after = one.final_metrics, other.final_metrics
    if not before:
        return not_comparable(METRICS, [NO_METRICS])
    reasons = tuple(_beyond(before, after, tolerance))
    word = DIFFERENT if reasons else EQUIVALENT
    return Verdict(word=word, goal=METRICS, reasons=reasons or ("all final metrics are within the tolerance",))


_Values = dict[tuple[int, str], str]


def _beyond(before: _Values, after: _Values, tolerance: Tolerance) -> Iterator[str]:
    """A line for each final metric that is beyond the tolerance, or that only one run has."""
    for number, name in sorted(before.keys() | after.keys()):
        texts = [values.get((number, name)) for values in (before, after)]
        where = f"fit {number}, {name}"
        if texts[0] is None or texts[1] is None:
            yield f"{where}: only one run has it"
            continue
        try:
            numbers = [float.fromhex(text) for text in texts if text is not None]
        except ValueError:
            if texts[0] != texts[1]:
                yield f"{where}: {texts[0]} and {texts[1]} are no numbers"
            continue
        if not tolerance.close(name, numbers[0], numbers[1]):
            yield f"{where}: {numbers[0]:.9g} and {numbers[1]:.9g} differ by {abs(numbers[0] - numbers[1]):.3g}"
