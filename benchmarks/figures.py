"""Figures of the benchmarks: a median, its spread and its goal, as JSON and as cells of a table."""

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from samebits.core.cpu_info import describe_cpu

VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """The median of `rounds` values, the quarters beside it, and the greatest value that meets the goal, if any."""

    name: str
    value: float
    low: float
    high: float
    rounds: int
    most: float | None = None

    @staticmethod
    def of(name: str, values: Sequence[float], *, most: float | None = None) -> "Figure":
        """Of one value or more; the quarters are the values themselves where there are fewer than four."""
        low, _, high = statistics.quantiles(values, n=4) if len(values) >= 4 else (min(values), 0, max(values))
        middle = statistics.median(values)
        return Figure(name=name, value=middle, low=low, high=high, rounds=len(values), most=most)

    @property
    def met(self) -> bool:
        """Whether there is no goal, or the median meets it."""
        return self.most is None or self.value <= self.most

    @property
    def said_goal(self) -> str:
        """The goal and whether it was met, as a cell of a table."""
        return "" if self.most is None else f"{self.most:g}: {'met' if self.met else '**missed**'}"


def spread(figure: Figure, digits: int = 3) -> str:
    """The median and its quarters, as a cell of a table."""
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def write_figures(path: Path, figures: Sequence[Figure]) -> None:
    """Write figures and the machine as JSON."""
    cpu = describe_cpu()
    machine = {"cpu": cpu.model, "cores": cpu.cores, "instructions": str(cpu.instruction_set)}
    values = {"version": VERSION, "machine": machine | {"python": platform.python_version()}}
    path.write_text(json.dumps(values | {"figures": [asdict(figure) for figure in figures]}, indent=1) + "\n")
