"""The parts of a page that one run and two have in common, as rows of text."""

from collections.abc import Iterable, Mapping
from typing import Any

from samebits.core.errors import pluralize
from samebits.core.recipe import leaves
from samebits.core.record import FINISHED, Record
from samebits.core.run_config import BITWISE, DOCUMENTED, METRICS
from samebits.host.report.chart import Chart, draw
from samebits.host.report.ledger_view import LedgerView

Row = tuple[str, str]
"""A name and its value."""

_LEVELS = {
    BITWISE: "every bit of the result is the same",
    METRICS: "the final value of each metric is the same within a tolerance",
    DOCUMENTED: "the recorded code runs to its end in the recorded environment",
}
_WHERE = {
    "portable": 'on every x86-64-v3 CPU, for proven operations ("The two profiles" in the documentation)',
    "native": "on the same class of CPU, with the same number of threads",
}


def recipe_rows(record: Record) -> list[Row]:
    """Every part of the recipe."""
    return [(name, _text(value)) for name, value in leaves(record.recipe.to_dict()).items()]


def git_rows(record: Record) -> list[Row]:
    """Where the code is kept, which is no part of the recipe; empty where it is in no repository."""
    git = record.origin.git
    if git is None:
        return []
    return [("git commit", str(git)), *([] if git.remote is None else [("git remote", git.remote)])]


def environment_rows(record: Record) -> list[Row]:
    """The machine and the versions; empty where the run ended before it observed them."""
    system = record.environment.system
    if system is None:
        return []
    return [
        ("runtime", record.environment.runtime or "unknown"),
        ("Python", system.python),
        ("TensorFlow", system.tensorflow),
        ("Keras", system.keras),
        ("NumPy", system.numpy),
        ("system", f"{system.system}, kernel {system.kernel}"),
        ("CPU", f"{system.cpu.model} ({system.cpu.instruction_set})"),
        *([("fingerprint", str(record.environment.arithmetic.digest))] if record.environment.arithmetic else []),
    ]


def guaranteed(record: Record) -> str:
    """What a verification at the run's level shows, and where."""
    profile = record.recipe.profile
    if record.environment.guarantee is not None:
        profile = record.environment.guarantee.profile
    level = _LEVELS.get(record.level, "nothing that this samebits knows")
    return f"With this recipe, {level}, {_WHERE.get(profile, 'on the same machine')}."


def reservations(record: Record) -> list[str]:
    """What weakens the guarantee, or is not covered by it; empty if nothing was noticed."""
    found = []
    if record.outcome.state != FINISHED:
        found.append(f"The run is {record.outcome.state}: {record.outcome.message or 'no reason is recorded'}.")
    found += [f"Unseeded randomness: {use} ({pluralize(use.times, 'time')})." for use in record.entropy]
    found += [f"No part of the recipe: {use}." for use in record.environment.unpinned or ()]
    found += [f"Set by the script: {setting}." for setting in record.environment.script_settings or ()]
    guarantee = record.environment.guarantee
    if guarantee is not None:
        found += [f"Not proven to be portable: {name}." for name in guarantee.unproven or ()]
        found += [f"Not proven to be portable: what {name} computes." for name in guarantee.not_covered]
        if guarantee.profile != record.recipe.profile:
            found.append(f"The guarantee is reduced to the {guarantee.profile} profile's.")
    if record.misses_layers:
        found.append(f"The result covers {record.covers}.")
    off = record.environment.features_off or {}
    found += [f"Off with these versions of the libraries: {name} ({reason})." for name, reason in off.items()]
    if record.resumable is not None and not record.resumable.resumable:
        found += [f"Not resumable: {reason}." for reason in record.resumable.reasons]
    return found


def curves(view: LedgerView) -> list[tuple[int, list[Chart]]]:
    """For each fit its charts: a metric and its validation share one."""
    return [(fit, [chart for chart in _charts(values) if chart]) for fit, values in sorted(view.fits.items())]


def _charts(values: Mapping[str, Any]) -> Iterable[Chart | None]:
    for name, series in grouped(values).items():
        yield draw(name, series)


def grouped(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Metrics by the name that training and validation share."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(values, key=lambda name: (name.removeprefix("val_"), name)):
        found.setdefault(name.removeprefix("val_"), {})[name] = values[name]
    return found


def _text(value: Any) -> str:
    return "none" if value is None or value == [] else str(value)
