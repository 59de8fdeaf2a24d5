"""One call of `fit`, whose metrics are collected epoch by epoch."""

from dataclasses import dataclass, field

from samebits.core.result import FitResult


@dataclass(kw_only=True, slots=True)
class FitHistory:
    """The index of its model, and each metric's values by epoch as exact floats."""

    model: int
    history: dict[str, list[str]] = field(default_factory=dict)
    epochs: int = 0

    @property
    def result(self) -> FitResult:
        """As the record holds it."""
        history = {name: tuple(values) for name, values in self.history.items()}
        return FitResult(model=self.model, epochs=self.epochs, history=history)

    @classmethod
    def resumed(cls, fit: FitResult) -> "FitHistory":
        """Continue a history that a checkpoint holds."""
        history = {name: list(values) for name, values in fit.history.items()}
        return cls(model=fit.model, epochs=fit.epochs, history=history)
