"""What a sweep trains: one run for each seed, and for each combination of the grid's values."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from samebits.core.errors import InputError, pluralize

MAX_RUNS = 10_000
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_RANGE = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?")

Grid = Mapping[str, tuple[str, ...]]
"""By the name of a script's argument: its values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One run of a sweep: its seed, and the grid's values as pairs of name and value."""

    seed: int
    grid: tuple[tuple[str, str], ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the script is given on top of the arguments that all runs have."""
        return tuple(f"--{name}={value}" for name, value in self.grid)

    def __str__(self) -> str:
        return ", ".join((*(f"{name}={value}" for name, value in self.grid), f"seed {self.seed}"))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse seeds such as `0-9` or `1,5,7-9`; raises InputError."""
    found: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise InputError(f"--seeds takes numbers and ranges such as 0-9 or 1,5,7, not {text!r}")
        _require_few(len(found) + last - first + 1)
        found += range(first, last + 1)
    _require_different("--seeds", [str(seed) for seed in found])
    return tuple(found)


def parse_grid(texts: Sequence[str], arguments: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """Parse `NAME=A,B` for each argument of the grid; raises InputError, also for one that all runs have already."""
    grid: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if _NAME.fullmatch(name) is None or not all(values.split(",")):
            raise InputError(f"--grid takes NAME=VALUE,VALUE for the script's argument --NAME, not {text!r}")
        if name in grid or any(given.partition("=")[0] == f"--{name}" for given in arguments):
            raise InputError(f"the script's argument --{name} is given twice; remove one")
        _require_different(f"--grid {name}", values.split(","))
        grid[name] = tuple(values.split(","))
    return grid


def members_of(seeds: Sequence[int], grid: Grid) -> tuple[Member, ...]:
    """Every combination of the grid with every seed; raises InputError for too many."""
    size = len(seeds)
    for values in grid.values():
        size *= len(values)
    _require_few(size)
    return tuple(_members(seeds, grid))


def _members(seeds: Sequence[int], grid: Grid) -> Iterator[Member]:
    for values in itertools.product(*grid.values()):
        for seed in seeds:
            yield Member(seed=seed, grid=tuple(zip(grid, values, strict=True)))


def _require_few(number: int) -> None:
    if number > MAX_RUNS:
        raise InputError(f"a sweep has at most {MAX_RUNS} runs, not {number}; split it")


def _require_different(option: str, values: Sequence[str]) -> None:
    """Raise InputError for a value that is named twice: its run would count twice in the mean."""
    twice = sorted({value for value in values if values.count(value) > 1}) if len(set(values)) < len(values) else []
    if twice:
        raise InputError(f"{option} names {pluralize(len(twice), 'value')} twice: {twice[0]}; name each once")
