"""Compare the lines of a ledger with the record's result: the metrics of each epoch, and the models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from samebits.core.errors import pluralize
from samebits.core.result import Result
from samebits.host.audit.hash_chain import Problem

Values = Mapping[str, Any]


@dataclass(kw_only=True, slots=True)
class FitSummary:
    """What the record holds of one `fit`, and how much of it the ledger confirmed.

    `base` is the number of its first epoch, which need not be 0. `logged` counts the values of each metric that only
    some epochs have.
    """

    epochs: int
    history: Mapping[str, tuple[str, ...]]
    base: int | None = None
    seen: int = 0
    logged: dict[str, int] = field(default_factory=dict)


class RecordConsistency:
    """Takes the lines that are as they were written. Without a result there is nothing to compare."""

    def __init__(self, result: Result | None) -> None:
        fits, models = ((), ()) if result is None else (result.fits, result.models)
        self._fits = [FitSummary(epochs=fit.epochs, history=fit.history) for fit in fits]
        self._models = [model.digest for model in models]
        self._compares = result is not None
        self._gaps = False
        self._ends = 0
        self.problems: list[Problem] = []

    def gap(self) -> None:
        """A line here is unknown: from here on, a value that the ledger lacks proves nothing."""
        self._gaps = True

    def add(self, number: int, values: Values) -> None:
        """Compare one line; an event without a counterpart in the record is ignored."""
        event = values.get("event")
        if self._compares and event in ("epoch", "end"):
            for text in self._epoch(values) if event == "epoch" else self._end(values):
                self.problems.append((number, f"line {number}: {text}"))

    def finish(self) -> list[Problem]:
        """Every disagreement, including values that only the record or only the ledger has."""
        if self._compares and not self._gaps:
            self.problems += [(0, text) for text in self._incomplete()]
        return self.problems

    def _epoch(self, values: Values) -> Iterator[str]:
        number, epoch, metrics = values.get("fit"), values.get("epoch"), values.get("metrics")
        if not (isinstance(number, int) and isinstance(epoch, int) and isinstance(metrics, dict)):
            yield "fit, epoch or metrics are not of the type that a ledger holds"
        # A ledger is parsed line by line and may hold anything, so every value is checked before use.
        elif not 0 <= number < len(self._fits):
            yield f"the record has no fit {number}"
        elif self._locate(fit := self._fits[number], epoch):
            yield from self._metrics(fit, f"epoch {epoch} of fit {number}", epoch, metrics)

    def _locate(self, fit: FitSummary, epoch: int) -> bool:
        """Whether the epoch's index in the fit is known; after a gap, the first epoch may have been another one."""
        # `fit(initial_epoch=5)` begins at 5. The first line of a fit shows that, unless a gap may hide it.
        if fit.base is None and not self._gaps:
            fit.base = epoch
        fit.seen += 1
        return fit.base is not None

    def _metrics(self, fit: FitSummary, named: str, epoch: int, metrics: Values) -> Iterator[str]:
        if fit.base is None or not 0 <= epoch - fit.base < fit.epochs:
            yield f"the record has no {named}"
            return
        for name in sorted(fit.history.keys() | metrics.keys()):
            # Values of such a metric are matched by order, which a gap destroys.
            if self._gaps and len(fit.history.get(name, ())) != fit.epochs:
                continue  # the gap hides how many values came before this one
            one, other = metrics.get(name), self._recorded(fit, name, epoch - fit.base, logged=name in metrics)
            if one != other:
                yield f"{name} in {named} is {_display(one)}, in the record {_display(other)}"

    def _recorded(self, fit: FitSummary, name: str, index: int, *, logged: bool) -> Any:
        """A metric's value in the record; not every epoch has every metric."""
        values = fit.history.get(name, ())
        if len(values) == fit.epochs:
            return values[index]
        # A metric that only some epochs have, as one of a validation every other epoch: its values come in order.
        if not logged:
            return None
        index = fit.logged.get(name, 0)
        fit.logged[name] = index + 1
        return values[index] if index < len(values) else None

    def _end(self, values: Values) -> Iterator[str]:
        self._ends += 1
        listed = values.get("models")
        found = listed if isinstance(listed, list) else []
        # A missing or additional model is a disagreement, too.
        for index, (one, other) in enumerate(zip_longest(found, self._models)):
            if one != other:
                yield f"model {index} is {_display(one)}, in the record {_display(other)}"

    def _incomplete(self) -> Iterator[str]:
        for number, fit in enumerate(self._fits):
            if fit.seen != fit.epochs:
                yield f"fit {number} has {fit.epochs} epochs in the record, and {fit.seen} in the ledger"
            for name, values in sorted(fit.history.items()):
                logged = fit.logged.get(name, 0)
                if len(values) not in (fit.epochs, logged):
                    yield f"{name} of fit {number} has {len(values)} values in the record, and {logged} in the ledger"
        # A run writes its end line once, with its result.
        if self._ends != 1:
            yield f"the record has a result, and the ledger has {pluralize(self._ends, 'end line')}"


def _display(value: object) -> str:
    """A value in a message."""
    text = "not there" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
