"""Curves as SVG: the numbers that a template puts into it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 12.0, 10.0, 28.0
MAX_POINTS = 1000
Points = Sequence[tuple[int, float]]
"""Pairs of epoch and value; a value may be NaN or infinite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A mark on an axis: its place in the drawing and its text."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One line of a chart: `path` is an SVG path, `last` the last value as text, `number` chooses its colour."""

    name: str
    path: str
    last: str
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A chart with its axes; `note` says what the drawing leaves out."""

    title: str
    curves: tuple[Curve, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    note: str = ""
    width: float = WIDTH
    height: float = HEIGHT
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM


def draw(title: str, series: Mapping[str, Points]) -> Chart | None:
    """A chart with a linear axis; None where no value is finite."""
    values = [value for points in series.values() for _, value in points if math.isfinite(value)]
    if not values:
        return None
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) * 0.1, high + (abs(high) or 1) * 0.1
    scale = _Scale(low=low, high=high, last=_last_epoch(series))
    up = tuple(Tick(at=scale.y(value), text=f"{value:.6g}") for value in _round_numbers(low, high))
    return _chart(title, series, scale, up)


def draw_differences(title: str, one: Mapping[str, Points], other: Mapping[str, Points]) -> Chart | None:
    """The distance of two runs' metrics on a logarithmic axis; None where no value differs.

    An epoch in which they are equal has no place on such an axis, and leaves a gap.
    """
    series = {name: _distances(one[name], other[name]) for name in one if name in other}
    logs = {name: [(epoch, _log(value)) for epoch, value in points] for name, points in series.items()}
    values = [value for points in logs.values() for _, value in points if math.isfinite(value)]
    if not values:
        return None
    low, high = math.floor(min(values)), math.ceil(max(values))
    # The same axis as the curves above it, also where one run has fewer epochs.
    last = max(_last_epoch(one), _last_epoch(other))
    scale = _Scale(low=low, high=max(high, low + 1), last=last)
    step = max(1, (int(scale.high) - low) // 5)
    up = tuple(Tick(at=scale.y(value), text=f"1e{value}") for value in range(low, int(scale.high) + 1, step))
    return _chart(title, logs, scale, up, last={name: points[-1][1] for name, points in series.items() if points})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    """From epochs and values to places in the drawing."""

    low: float
    high: float
    last: int

    def x(self, epoch: int) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (epoch / self.last if self.last else 0.5)

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * ((value - self.low) / (self.high - self.low))


def _chart(
    title: str,
    series: Mapping[str, Points],
    scale: _Scale,
    up: tuple[Tick, ...],
    last: Mapping[str, float] | None = None,
) -> Chart:
    curves = []
    for number, (name, points) in enumerate(series.items()):
        if points:
            value = points[-1][1] if last is None else last[name]
            path = _path(_thinned(points), scale)
            curves.append(Curve(name=name, path=path, last=f"{value:.6g}", number=number % 6))
    across = tuple(Tick(at=scale.x(epoch), text=str(epoch)) for epoch in _some_epochs(scale.last))
    most = max(map(len, series.values()))
    note = f"{most} epochs, of which {MAX_POINTS} are drawn" if most > MAX_POINTS else ""
    return Chart(title=title, curves=tuple(curves), across=across, up=up, note=note)


def _path(points: Points, scale: _Scale) -> str:
    """An SVG path; a value that is not finite interrupts it, and a single point becomes a dot."""
    parts, draws = [], False
    for epoch, value in points:
        if not math.isfinite(value):
            draws = False
            continue
        parts.append(f"{'L' if draws else 'M'}{scale.x(epoch):.1f} {scale.y(value):.1f}")
        if not draws:
            parts.append("h0")
        draws = True
    return "".join(parts)


def _thinned(points: Points) -> Points:
    """At most MAX_POINTS of them: the lowest and the highest of each group, so that no peak is lost."""
    if len(points) <= MAX_POINTS:
        return points
    size = -(-len(points) // (MAX_POINTS // 2))
    kept: list[tuple[int, float]] = []
    for start in range(0, len(points), size):
        group = points[start : start + size]
        ends = {min(group, key=lambda point: point[1]), max(group, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def _round_numbers(low: float, high: float) -> Iterator[float]:
    """Three to six round numbers from `low` to `high`."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield number * step


def _some_epochs(last: int) -> list[int]:
    step = max(1, round((last + 1) / 6))
    return list(range(0, last + 1, step))


def _last_epoch(series: Mapping[str, Points]) -> int:
    return max((epoch for points in series.values() for epoch, _ in points), default=0)


def _distances(one: Points, other: Points) -> list[tuple[int, float]]:
    return [(epoch, abs(value - there)) for (epoch, value), (_, there) in zip(one, other, strict=False)]


def _log(value: float) -> float:
    """Equal values are no point on a logarithmic axis, and leave a gap."""
    return math.log10(value) if math.isfinite(value) and value > 0 else math.nan
