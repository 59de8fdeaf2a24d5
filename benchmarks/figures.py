"""Figures of the benchmarks: their values and goals, the tables made of them, and the files that keep them."""

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from samebits.core.jsonio import write_atomically

VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One cell of a table: a value for each round, their unit, and the greatest or least median that meets the goal."""

    table: str
    row: str
    column: str
    values: tuple[float, ...]
    unit: str = ""
    most: float | None = None
    least: float | None = None

    def __post_init__(self) -> None:
        if not self.values or not all(map(math.isfinite, self.values)):
            raise ValueError(f"{self.name} has no finite values")
        object.__setattr__(self, "values", tuple(float(f"{value:.6g}") for value in self.values))

    @property
    def name(self) -> str:
        """What a new measurement of the same is found by."""
        return f"{self.table} / {self.row} / {self.column}"

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def quarters(self) -> tuple[float, float]:
        """Between them lies the middle half of the values; of fewer than four, all."""
        if len(self.values) < 4:
            return min(self.values), max(self.values)
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def excess(self) -> float:
        """By how much the median misses the goal; not above 0 where it meets it, or there is none."""
        over = -math.inf if self.most is None else self.value - self.most
        under = -math.inf if self.least is None else self.least - self.value
        return max(over, under)

    @property
    def spread(self) -> float:
        """From the median to the farther quarter."""
        return max(abs(self.value - quarter) for quarter in self.quarters)

    @property
    def goal(self) -> str:
        """The goal, and whether the median meets it."""
        bounds = [f"{sign} {bound:,.10g}" for sign, bound in (("≤", self.most), ("≥", self.least)) if bound is not None]
        return f"{' and '.join(bounds)}: {'met' if self.excess <= 0 else '**missed**'}" if bounds else ""

    def __str__(self) -> str:
        """The median, the quarters beside it, and the goal."""
        low, high = self.quarters
        places = _places(self.value, self.unit)
        middle, *ends = (f"{value:,.{places}f}" for value in (self.value, low, high))
        between = "" if len(self.values) == 1 else f" ({ends[0]} to {ends[1]})"
        goal = f"; {self.goal}" if self.goal else ""
        return f"{middle}{between}{' ' + self.unit if self.unit else ''}{goal}"


def _places(value: float, unit: str) -> int:
    """Decimals that show three digits or more; a ratio has three."""
    if not unit:
        return 3
    return 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where, when and of which state figures were measured, and how many cores other work used when it began."""

    command: str
    samebits: str
    commit: str
    date: str
    cpu: str
    cores: int
    instructions: str
    python: str
    others: float
    idle: bool

    def __str__(self) -> str:
        busy = "which nothing else used" if self.idle else f"of which other work used {self.others:.1f}: **not idle**"
        machine = f"{self.cpu}, {self.instructions}, {self.cores} cores, {busy}; Python {self.python}"
        return f"{machine}; samebits {self.samebits} at {self.commit}, {self.date}."


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """The figures of one benchmark."""

    origin: Origin
    figures: tuple[Figure, ...]

    def __post_init__(self) -> None:
        names = [figure.name for figure in self.figures]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"twice: {', '.join(sorted(twice))}")

    @staticmethod
    def read(path: Path) -> "Measurement":
        """Raises ValueError where a file is not as `write` leaves it."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("version") != VERSION or {*values} != {"origin", "figures"}:
                raise ValueError("another form")  # noqa: TRY301
            figures = [Figure(**{**one, "values": tuple(one["values"])}) for one in values["figures"]]
            return Measurement(origin=Origin(**values["origin"]), figures=tuple(figures))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error!r}") from error

    def write(self, path: Path) -> None:
        """JSON with one line for each figure, so that a change of one is a change of one line."""
        figures = [
            {name: value for name, value in asdict(figure).items() if value is not None} for figure in self.figures
        ]
        lines = ",\n  ".join(json.dumps(figure, ensure_ascii=False) for figure in figures)
        origin = json.dumps(asdict(self.origin), ensure_ascii=False)
        text = f'{{\n "version": {VERSION},\n "origin": {origin},\n "figures": [\n  {lines}\n ]\n}}\n'
        write_atomically(path, text.encode())

    def tables(self) -> str:
        """Markdown: a table for each name in them, and what it was measured on."""
        names = dict.fromkeys(figure.table for figure in self.figures)
        parts = [_table(name, [figure for figure in self.figures if figure.table == name]) for name in names]
        return "\n\n".join([*parts, f"{self._described()} {self.origin}"]) + "\n"

    def _described(self) -> str:
        counts = sorted({len(figure.values) for figure in self.figures})
        rounds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        return f"Medians of {rounds} rounds, with their quarters." if counts[-1] > 1 else "One round."


def _table(name: str, figures: Sequence[Figure]) -> str:
    """A row for each row, a column for each column; what was not measured is empty."""
    columns = list(dict.fromkeys(figure.column for figure in figures))
    cells = {(figure.row, figure.column): str(figure) for figure in figures}
    lines = [f"| {name} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in dict.fromkeys(figure.row for figure in figures):
        lines += [f"| {row} | {' | '.join(cells.get((row, column), '') for column in columns)} |"]
    return "\n".join(lines)


def regressions(kept: Measurement, found: Measurement) -> Iterator[str]:
    """Each goal that `kept` met and `found` misses by more than the larger spread of the two, or has no figure of."""
    now = {figure.name: figure for figure in found.figures}
    for before in kept.figures:
        if not before.goal or before.excess > 0:
            continue
        after = now.get(before.name)
        if after is None:
            yield f"{before.name}: not measured any more; it was {before}"
        elif after.excess > max(before.spread, after.spread):
            yield f"{before.name}: {after}; it was {before}"


def replaced_tables(text: str, name: str, tables: str) -> str:
    """A page with the tables of one benchmark between their markers; raises ValueError unless these are there once."""
    begin, end = (f"<!-- {word} of {name} -->\n" for word in ("figures", "end"))
    if (text.count(begin), text.count(end)) != (1, 1):
        raise ValueError(f"the page must hold {begin.strip()} and {end.strip()} once")
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    return f"{head}{begin}{tables}{end}{tail}"
