"""Metrics whose histories differ between two runs, at the epochs that the ledgers name."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from samebits.core.ledger import parse_line
from samebits.core.result import FitResult
from samebits.core.run_dir import RunDir
from samebits.host.compare.ledger_diff import read_lines

LoggedEpochs = Mapping[tuple[int, str], Sequence[int]]
"""By `fit` and metric: the epoch of each of its values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricDifference:
    """The values of the first epoch in which a metric differs, and the largest distance in all epochs."""

    name: str
    before: str | None
    after: str | None
    detail: str


def metric_differences(
    runs: tuple[RunDir, RunDir], before: Sequence[FitResult], after: Sequence[FitResult]
) -> Iterator[MetricDifference]:
    """Every metric whose history differs."""
    # The history has no epochs: `fit(initial_epoch=5)` begins at 5, and a validation may be every other epoch's.
    logged: list[LoggedEpochs] = []
    for number, pair in enumerate(itertools.zip_longest(before, after)):
        histories: list[Mapping[str, tuple[str, ...]]] = [{} if fit is None else fit.history for fit in pair]
        for name in sorted(histories[0].keys() | histories[1].keys()):
            values = [history.get(name, ()) for history in histories]
            differing = [
                (index, one, other) for index, (one, other) in enumerate(itertools.zip_longest(*values)) if one != other
            ]
            if differing:
                logged = logged or [_logged_epochs(run) for run in runs]
                index, one, other = differing[0]
                place = f"fit {number}, epoch {_epoch(logged, (number, name), index)}, {name}"
                yield MetricDifference(name=place, before=one, after=other, detail=_largest_distance(differing))


def _logged_epochs(run: RunDir) -> LoggedEpochs:
    found: dict[tuple[int, str], list[int]] = {}
    for line in read_lines(run, steps=False):
        values = parse_line(line.raw)
        fit, epoch, metrics = values.get("fit"), values.get("epoch"), values.get("metrics")
        if isinstance(fit, int) and isinstance(epoch, int) and isinstance(metrics, dict):
            for name in metrics:
                found.setdefault((fit, name), []).append(epoch)
    return found


def _epoch(logged: Sequence[LoggedEpochs], metric: tuple[int, str], index: int) -> int:
    """The epoch of a value; its index where no ledger has it."""
    lists = (found.get(metric, ()) for found in logged)
    return next((epochs[index] for epochs in lists if index < len(epochs)), index)


def _largest_distance(differing: list[tuple[int, str | None, str | None]]) -> str:
    """How many epochs differ, and the largest distance of two exact floats, if the values are numbers."""
    distances = []
    for _, one, other in differing:
        try:
            distances.append(abs(float.fromhex(str(one)) - float.fromhex(str(other))))
        except ValueError:
            continue
    return (
        f"{len(differing)} epochs differ, by {max(distances):.3g} at most"
        if distances
        else f"{len(differing)} epochs differ"
    )
