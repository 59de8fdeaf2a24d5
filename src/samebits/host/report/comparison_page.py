"""The page of two runs: the verdict, the first divergence, and only what differs."""

from collections.abc import Iterator, Mapping, Sequence

from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.compare.ledger_diff import Divergence, first_divergence
from samebits.host.compare.run_diff import INPUTS, OUTPUTS, Difference, diff, readable
from samebits.host.compare.verdict import Tolerance, Verdict, judge_runs
from samebits.host.report.chart import Chart, draw, draw_differences
from samebits.host.report.ledger_view import LedgerView, compare_views
from samebits.host.report.page import render
from samebits.host.report.tables import Row, environment_rows, grouped, recipe_rows, reservations

MAX_ROWS = 1000


def comparison_page(
    one: RunDir,
    other: RunDir,
    *,
    verdict: Verdict | None = None,
    differences: Sequence[Difference] | None = None,
    located: str = "",
) -> bytes:
    """The page of two runs; `located` is where `verify --locate` found the first difference.

    Without a verdict the results are judged at the first run's level; without differences they are looked for. Raises
    RecordError for a run that cannot be read.
    """
    records = one.read(), other.read()
    verdict = verdict or judge_runs(*records, records[0].level, Tolerance())
    differences = diff(one, other) if differences is None else differences
    divergence = first_divergence((one, records[0]), (other, records[1]))
    *views, cells = compare_views(one, other)
    return render(
        "comparison.html.j2",
        records=records,
        verdict=verdict,
        located=located,
        divergence=divergence,
        values=_values(divergence),
        inputs=_tables(differences, INPUTS),
        outputs=_tables(differences, OUTPUTS),
        code=[item for item in differences if item.kind == "code"],
        fits=list(_charts(views[0], views[1])),
        cells=cells,
        lines=max(view.lines for view in views),
        equal=_equal_rows(records),
        reservations=[reservations(record) for record in records],
        environments=[environment_rows(record) for record in records],
        max_rows=MAX_ROWS,
    )


def _values(divergence: Divergence | None) -> list[tuple[str, str, str]]:
    """The values that differ in the first line that does."""
    if divergence is None:
        return []
    return [(name, _short(before), _short(after)) for name, before, after in divergence.differences()][:MAX_ROWS]


def _short(value: object) -> str:
    """A value of a ledger's line; a tensor is named by its digest."""
    if isinstance(value, Mapping):
        return _short(value.get("digest", str(value)))
    return readable(None if value is None else str(value))


def _tables(differences: Sequence[Difference], side: str) -> dict[str, list[tuple[Difference, str, str]]]:
    """By kind, in the order of `diff`: each difference with its two values. Tensors come with the farthest first."""
    found: dict[str, list[tuple[Difference, str, str]]] = {}
    for item in differences:
        # Code is shown as lines, the ledger's first difference at the top.
        if item.side == side and item.kind not in {"code", "ledger"}:
            found.setdefault(item.kind, []).append((item, readable(item.before), readable(item.after)))
    found.get("tensor", []).sort(key=lambda row: (-_ulps(row[0].detail), row[0].name))
    return found


def _ulps(detail: str) -> int:
    """The distance that a tensor's detail ends in, such as `…, 3 ULPs`; 0 where none is known."""
    number, _, unit = detail.rpartition(", ")[2].partition(" ")
    return int(number) if unit.startswith("ULP") and number.isdecimal() else 0


def _charts(one: LedgerView, other: LedgerView) -> Iterator[tuple[int, list[tuple[Chart | None, Chart | None]]]]:
    """For each fit that both runs have: both curves of a metric, and below them their difference."""
    for fit in sorted(one.fits.keys() & other.fits.keys()):
        charts = []
        for name, series in grouped(one.fits[fit]).items():
            theirs = {key: values for key, values in other.fits[fit].items() if key in series}
            sides = (("first", series), ("second", theirs))
            both = {f"{key}, {which}": side[key] for key in series for which, side in sides if key in side}
            charts.append((draw(name, both), draw_differences(f"{name}: distance", series, theirs)))
        yield fit, charts


def _equal_rows(records: tuple[Record, Record]) -> list[Row]:
    """The parts of the recipe that are equal; folded away on the page."""
    one, other = (dict(recipe_rows(record)) for record in records)
    return [(name, value) for name, value in one.items() if other.get(name) == value]
