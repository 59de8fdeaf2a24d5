"""Whether what the lines of a ledger say is what the record's result says: each epoch's metrics, and the models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from samebits.core.result import Result
from samebits.host.audit.tamper_report import Problem

Values = Mapping[str, Any]


@dataclass(kw_only=True, slots=True)
class FitSummary:
    """What the record holds of one `fit`, and how much of it the ledger has told.

    `base` is the number of its first epoch, which need not be 0. A metric that not every epoch has is followed by how
    many of its values were `told`.
    """

    epochs: int
    history: Mapping[str, tuple[str, ...]]
    base: int | None = None
    seen: int = 0
    told: dict[str, int] = field(default_factory=dict)


class RecordConsistency:
    """Takes the lines that are as they were written; without a result there is nothing to compare."""

    def __init__(self, result: Result | None) -> None:
        fits, models = ((), ()) if result is None else (result.fits, result.models)
        self._fits = [FitSummary(epochs=fit.epochs, history=fit.history) for fit in fits]
        self._models = [model.digest for model in models]
        self._compares = result is not None
        self._gaps = False
        self._ends = 0
        self.problems: list[Problem] = []

    def gap(self) -> None:
        """A line here is not known: from here on, what the ledger does not tell proves nothing."""
        self._gaps = True

    def add(self, number: int, values: Values) -> None:
        """One line; events without a counterpart in the record are passed over."""
        event = values.get("event")
        if self._compares and event in ("epoch", "end"):
            for text in self._epoch(values) if event == "epoch" else self._end(values):
                self.problems.append((number, f"line {number}: {text}"))

    def finish(self) -> list[Problem]:
        """All that does not agree, also what one of the two has not got at all."""
        if self._compares and not self._gaps:
            self.problems += [(0, text) for text in self._untold()]
        return self.problems

    def _epoch(self, values: Values) -> Iterator[str]:
        number, epoch, metrics = values.get("fit"), values.get("epoch"), values.get("metrics")
        if not (isinstance(number, int) and isinstance(epoch, int) and isinstance(metrics, dict)):
            yield "fit, epoch or metrics are not what a ledger holds there"
        elif not 0 <= number < len(self._fits):
            yield f"the record has no fit {number}"
        elif self._placed(fit := self._fits[number], epoch):
            yield from self._metrics(fit, f"epoch {epoch} of fit {number}", epoch, metrics)

    def _placed(self, fit: FitSummary, epoch: int) -> bool:
        """Whether it is known where in the fit this epoch is; behind a gap, its first may have been another one."""
        if fit.base is None and not self._gaps:
            fit.base = epoch
        fit.seen += 1
        return fit.base is not None

    def _metrics(self, fit: FitSummary, named: str, epoch: int, metrics: Values) -> Iterator[str]:
        if fit.base is None or not 0 <= epoch - fit.base < fit.epochs:
            yield f"the record has no {named}"
            return
        for name in sorted(fit.history.keys() | metrics.keys()):
            if self._gaps and len(fit.history.get(name, ())) != fit.epochs:
                continue  # how many of its values came before is not known
            one, other = metrics.get(name), self._recorded(fit, name, epoch - fit.base, told=name in metrics)
            if one != other:
                yield f"{name} in {named} is {_text(one)}, in the record {_text(other)}"

    def _recorded(self, fit: FitSummary, name: str, index: int, *, told: bool) -> Any:
        """A metric's value by the record; not every epoch has every metric."""
        values = fit.history.get(name, ())
        if len(values) == fit.epochs:
            return values[index]
        if not told:
            return None
        place = fit.told.get(name, 0)
        fit.told[name] = place + 1
        return values[place] if place < len(values) else None

    def _end(self, values: Values) -> Iterator[str]:
        self._ends += 1
        listed = values.get("models")
        found = listed if isinstance(listed, list) else []
        for index, (one, other) in enumerate(zip_longest(found, self._models)):
            if one != other:
                yield f"model {index} is {_text(one)}, in the record {_text(other)}"

    def _untold(self) -> Iterator[str]:
        for number, fit in enumerate(self._fits):
            if fit.seen != fit.epochs:
                yield f"fit {number} has {fit.epochs} epochs in the record, and {fit.seen} in the ledger"
            for name, values in sorted(fit.history.items()):
                told = fit.told.get(name, 0)
                if len(values) != fit.epochs and len(values) != told:
                    yield f"{name} of fit {number} has {len(values)} values in the record, and {told} in the ledger"
        if self._ends != 1:
            yield f"the record has a result, and the ledger {self._ends} lines of an end"


def _text(value: object) -> str:
    """A value in a message."""
    text = "not there" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
