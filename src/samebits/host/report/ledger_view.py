"""What a page shows of a ledger: the metrics of each fit, and its lines as cells. Read once, line by line."""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from samebits.core.jsonio import canonical_json
from samebits.core.ledger import line_place
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_lines
from samebits.host.compare.ledger_diff import CHAIN_KEYS

MAX_CELLS = 600
SAME, DIFFERS, ONLY_HERE, ONLY_THERE, ALONE = "same", "differs", "only here", "only there", "alone"
_WORST = (DIFFERS, ONLY_HERE, ONLY_THERE, SAME, ALONE)
"""The state that a cell of several lines shows: the first of these that one of its lines has."""

Values = dict[str, list[tuple[int, float]]]
"""By metric: pairs of epoch (from 0) and value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Some lines that follow each other: the place of the first, their number, and whether another run has them."""

    place: str
    lines: int
    state: str


@dataclass(kw_only=True, slots=True)
class LedgerView:
    """`fits` holds the metrics of each fit, by its number; `lines` is the number of lines that were read."""

    fits: dict[int, Values] = field(default_factory=dict)
    lines: int = 0

    def note(self, line: Mapping[str, Any]) -> None:
        """Take the metrics of an epoch's line; other lines have none that are drawn."""
        self.lines += 1
        fit, epoch, metrics = line.get("fit"), line.get("epoch"), line.get("metrics")
        if line.get("event") != "epoch" or not isinstance(fit, int) or not isinstance(metrics, Mapping):
            return
        values = self.fits.setdefault(fit, {})
        for name, text in metrics.items():
            if isinstance(epoch, int) and isinstance(text, str):
                values.setdefault(str(name), []).append((epoch, _number(text)))


def read_view(run: RunDir) -> tuple[LedgerView, list[Cell]]:
    """The metrics of one run, and its lines as cells."""
    view = LedgerView()
    states = []
    for line in _lines(run):
        view.note(line)
        states.append((line, ALONE))
    return view, _cells(states)


def compare_views(one: RunDir, other: RunDir) -> tuple[LedgerView, LedgerView, list[Cell]]:
    """The metrics of two runs, and whether their lines agree."""
    views = LedgerView(), LedgerView()
    states = []
    for pair in itertools.zip_longest(_lines(one), _lines(other)):
        for view, line in zip(views, pair, strict=True):
            if line is not None:
                view.note(line)
        states.append((pair[0] or pair[1] or {}, _state(*pair)))
    return *views, _cells(states)


def _state(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> str:
    if one is None or other is None:
        return ONLY_THERE if one is None else ONLY_HERE
    return SAME if _content(one) == _content(other) else DIFFERS


def _content(line: Mapping[str, Any]) -> bytes:
    return canonical_json({name: value for name, value in line.items() if name not in CHAIN_KEYS})


def _cells(states: list[tuple[Mapping[str, Any], str]]) -> list[Cell]:
    """At most MAX_CELLS cells: a long ledger has several lines in each."""
    size = max(1, -(-len(states) // MAX_CELLS))
    return [_cell(states[start : start + size]) for start in range(0, len(states), size)]


def _cell(states: list[tuple[Mapping[str, Any], str]]) -> Cell:
    found = {state for _, state in states}
    return Cell(place=line_place(states[0][0]), lines=len(states), state=next(s for s in _WORST if s in found))


def _lines(run: RunDir) -> Iterator[Mapping[str, Any]]:
    """The lines that are JSON objects; a torn or foreign line is left to `show` and `audit`."""
    with suppress(OSError):  # a run that failed early has none
        for content in plain_lines(run.ledger):
            try:
                line = json.loads(content)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict):
                yield line


def _number(text: str) -> float:
    """A metric's exact text as a number; NaN for any other text, which leaves a gap in the curve."""
    try:
        return float.fromhex(text)
    except (ValueError, OverflowError):
        return float("nan")
