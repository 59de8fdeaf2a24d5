"""The verdict on two runs at a level: identical, equivalent, different, or not comparable."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from samebits.core.errors import EXIT_DIFFERENT, EXIT_NOT_COMPARABLE, EXIT_OK, InputError, shorten
from samebits.core.jsonio import differing_names
from samebits.core.record import FAILED, Record
from samebits.core.result import LAUNCHER, Result
from samebits.core.run_config import BITWISE, DOCUMENTED, METRICS

IDENTICAL = "identical"
EQUIVALENT = "equivalent"
DIFFERENT = "different"
NOT_COMPARABLE = "not comparable"

NOTHING = "the result is empty: no Keras model was trained, and no output file was written"
NO_METRICS = "the run has no metrics; verify with --level bitwise"

UNSEEN = (
    "the results cover files only, and the script discarded Keras layers before they could be digested; keep its model,"
    " such as in a global variable"
)

REL = 1e-3
"""The default relative tolerance: how much a number printed with three digits can be off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """`kind` is one of the four verdicts; `reasons` has one line for each reason, and is complete.

    `covers` says of what equal results are the digest, such as `2 models, 3 files`.
    """

    kind: str
    level: str
    reasons: tuple[str, ...] = ()
    covers: str = ""

    @property
    def line(self) -> str:
        """The last line of `verify`: the verdict, and what it covers where that is known."""
        return f"{self.kind}: {self.covers}" if self.covers else self.kind

    @property
    def exit_status(self) -> int:
        """As of `diff`, plus one for what cannot be compared."""
        return {DIFFERENT: EXIT_DIFFERENT, NOT_COMPARABLE: EXIT_NOT_COMPARABLE}.get(self.kind, EXIT_OK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """How far a metric's final value may be off: by `rel` of the larger value, or by `abs`. The key "" is for all."""

    rel: Mapping[str, float] = field(default_factory=lambda: {"": REL})
    abs: Mapping[str, float] = field(default_factory=lambda: {"": 0.0})

    @classmethod
    def parse(cls, rel: list[str], absolute: list[str]) -> "Tolerance":
        """Parse `VALUE` or `METRIC=VALUE`; raises InputError."""
        return cls(
            rel={"": REL} | _parse_tolerances("--rel", rel), abs={"": 0.0} | _parse_tolerances("--abs", absolute)
        )

    def close(self, name: str, one: float, other: float) -> bool:
        """Whether two values of the metric `name` are equal within the tolerance; NaN is equal to NaN."""
        # A loss that became NaN in both runs was reproduced.
        if math.isnan(one) and math.isnan(other):
            return True
        rel, absolute = (limits.get(name, limits[""]) for limits in (self.rel, self.abs))
        return math.isclose(one, other, rel_tol=rel, abs_tol=absolute)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """The form in `verification.json`."""
        return {"rel": dict(self.rel), "abs": dict(self.abs)}


def _parse_tolerances(option: str, texts: list[str]) -> dict[str, float]:
    found = {}
    for given in texts:
        name, _, text = given.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        # Also rejects NaN, which compares false.
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(f"{option} takes a number from 0 on, or METRIC=NUMBER, not {given!r}")
        found[name] = value
    return found


def judge_runs(one: Record, other: Record, level: str, tolerance: Tolerance) -> Verdict:
    """The verdict on `other`, where `one` is the expected run."""
    if one.result is None or other.result is None:
        return _without_result(one, other, level)
    # Two empty results are equal, but that shows nothing about the script.
    if level != DOCUMENTED and one.holds_nothing and other.holds_nothing:
        return not_comparable(level, [NOTHING])
    # Equal digests satisfy every level, as long as they cover what was trained.
    if one.result_digest == other.result_digest:
        return _equal(one, other, level)
    if level == BITWISE:
        return Verdict(kind=DIFFERENT, level=level, reasons=(_difference(one.result, other.result),))
    if level == DOCUMENTED:
        return Verdict(kind=EQUIVALENT, level=level, reasons=("it finished again; the result digests differ",))
    return _by_metrics(one, other, tolerance)


def _difference(one: Result, other: Result) -> str:
    """Why two results differ; output files alone are often logs that hold a time."""
    if (one.models, one.fits) != (other.models, other.fits):
        return "the result digests differ"
    files = {item.path: item for item in one.outputs}, {item.path: item for item in other.outputs}
    paths = differing_names(*files)
    hint = "those that hold a time or a host name are left out with `samebits train --ignore-output`;"
    hint += ' see "Plots that repeat" in the documentation'
    return f"only output files differ: {shorten(paths, 3)}; {hint}" if paths else "the result digests differ"


def _equal(one: Record, other: Record, level: str) -> Verdict:
    """The verdict on equal results: they show nothing about models that neither covers."""
    if level != DOCUMENTED and (one.misses_models or other.misses_models):
        return not_comparable(level, [UNSEEN])
    if level != DOCUMENTED and (unsure := _measured_in_one(one, other)):
        return not_comparable(level, [f"measured in one run, and only claimed in the other: {shorten(unsure, 3)}"])
    return Verdict(kind=IDENTICAL, level=level, covers=(other if other.misses_layers or other.claimed else one).covers)


def _measured_in_one(one: Record, other: Record) -> list[str]:
    """What the launcher of one run could measure, and that of the other could not: a script may claim anything."""
    sides = [side.measured for side in (one, other) if side.measured is not None and side.measured.by == LAUNCHER]
    return sorted({*sides[0].claimed} ^ {*sides[1].claimed}) if len(sides) == 2 else []


def _without_result(one: Record, other: Record, level: str) -> Verdict:
    """Different only if the script itself failed; any other end of a run says nothing about its result."""
    # The expected run must have a result; without it there is nothing to compare with.
    missing = one if one.result is None else other
    reasons = [f"the run {missing.id} has no result: {_describe_end(missing)}"]
    if missing is other and _failed_in_script(other):
        return Verdict(kind=DIFFERENT, level=level, reasons=tuple(reasons))
    return not_comparable(level, reasons)


def not_comparable(level: str, reasons: list[str]) -> Verdict:
    """The verdict if the runs cannot be compared, with the reasons."""
    return Verdict(kind=NOT_COMPARABLE, level=level, reasons=tuple(reasons))


def _describe_end(record: Record) -> str:
    """How a run without a result ended."""
    outcome = record.outcome
    return outcome.state if outcome.message is None else f"{outcome.state}: {outcome.message}"


def _failed_in_script(record: Record) -> bool:
    """Whether the script itself failed: a result of its own, unlike a kill or a full disk."""
    return record.outcome.state == FAILED and record.outcome.exit_status is not None


def check_metrics(record: Record, level: str, tolerance: Tolerance) -> None:
    """Raise InputError if a tolerance is given for another level, or for a metric that the run does not have."""
    given = tolerance.rel.keys() | tolerance.abs.keys()
    if level != METRICS and tolerance != Tolerance():
        raise InputError(f"--rel and --abs are for the level {METRICS}, and this is {level}; add --level {METRICS}")
    known = {name for _, name in record.final_metrics}
    # A misspelt metric name would otherwise have no effect, silently.
    unknown = sorted(given - known - {""})
    if unknown:
        there = f"there are {', '.join(sorted(known))}" if known else "it has none"
        raise InputError(f"the run {record.id} has no metric {unknown[0]!r}; {there}")


def _by_metrics(one: Record, other: Record, tolerance: Tolerance) -> Verdict:
    before, after = one.final_metrics, other.final_metrics
    if not before:
        return not_comparable(METRICS, [NO_METRICS])
    reasons = tuple(_out_of_tolerance(before, after, tolerance))
    kind = DIFFERENT if reasons else EQUIVALENT
    return Verdict(kind=kind, level=METRICS, reasons=reasons or ("all final metrics are within the tolerance",))


_Values = dict[tuple[int, str], str]


def _out_of_tolerance(before: _Values, after: _Values, tolerance: Tolerance) -> Iterator[str]:
    """A line for each final metric that is out of tolerance, or that only one run has."""
    for number, name in sorted(before.keys() | after.keys()):
        texts = [values.get((number, name)) for values in (before, after)]
        where = f"fit {number}, {name}"
        if texts[0] is None or texts[1] is None:
            yield f"{where}: only one run has it"
            continue
        try:
            numbers = [float.fromhex(text) for text in texts if text is not None]
        except ValueError:
            # A metric may be text; then only the same text is equal.
            if texts[0] != texts[1]:
                yield f"{where}: {texts[0]} and {texts[1]} are not numbers"
            continue
        if not tolerance.close(name, numbers[0], numbers[1]):
            yield f"{where}: {numbers[0]:.9g} and {numbers[1]:.9g} differ by {abs(numbers[0] - numbers[1]):.3g}"
