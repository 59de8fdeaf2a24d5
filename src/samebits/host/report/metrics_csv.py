"""The metrics of a run as CSV: a row per epoch of each fit, a column per metric."""

import csv
import io
import math
from collections.abc import Iterator

from samebits.core.printable import printable
from samebits.core.run_dir import RunDir
from samebits.host.report.ledger_view import LedgerView, read_view

_FORMULA = tuple("=+-@")


def metrics_csv(run: RunDir) -> Iterator[str]:
    """The lines, from the ledger, so that a run which did not finish has them, too; floats are exact."""
    view, _ = read_view(run)
    names = sorted({name for values in view.fits.values() for name in values})
    yield _line(["fit", "epoch", *map(_safe, names)])
    for fit in sorted(view.fits):
        yield from _rows(view, fit, names)


def _rows(view: LedgerView, fit: int, names: list[str]) -> Iterator[str]:
    columns = {name: dict(view.fits[fit].get(name, ())) for name in names}
    for epoch in sorted({epoch for column in columns.values() for epoch in column}):
        cells = (_number(columns[name].get(epoch)) for name in names)
        yield _line([str(fit), str(epoch), *cells])


def _number(value: float | None) -> str:
    """The shortest decimal that is read back as the same float; nothing where there is no value."""
    if value is None:
        return ""
    return repr(value) if math.isfinite(value) else str(value)


def _safe(name: str) -> str:
    """A name that a spreadsheet does not take for a formula, on one line."""
    return printable(f"'{name}" if name.startswith(_FORMULA) else name)


def _line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
