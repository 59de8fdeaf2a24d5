"""Trained models: which optimizer trains them, which variables belong to them, and how they are saved."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.core.result import ModelResult
from samebits.runner.compat import keras_private
from samebits.runner.digests.tensors import model_variables


@dataclass(kw_only=True, slots=True)
class TrainedModel:
    """One trained model, or the variables of an optimizer without a model. `settled` is its result once digested."""

    name: str
    how: str
    target: Any
    optimizers: list[Any] = field(default_factory=list)
    fitting: int = 0
    settled: ModelResult | None = None

    def variables(self) -> dict[str, list[Any]]:
        """All its variables by group, including those of its optimizers."""
        groups = {} if self.target is None else model_variables(self.target)
        for number, optimizer in enumerate(self.optimizers):
            groups[f"loop_optimizer_{number}"] = list(optimizer.variables)
            if self.target is None:
                groups["variables"] = trained_by(optimizer)
        return groups

    def stepped_by(self, optimizer: Any) -> bool:
        """Whether this optimizer trains it, and it is not digested yet."""
        own = self.target is not None and getattr(self.target, "optimizer", None) is optimizer
        return self.settled is None and (own or any(known is optimizer for known in self.optimizers))


def trained_by(optimizer: Any) -> list[Any]:
    """The variables that an optimizer was built for."""
    return keras_private.trained_variables(optimizer)


def owns(model: Any, variables: list[Any]) -> bool:
    """Whether any of the variables belongs to the model."""
    known = {id(variable) for variable in model.trainable_variables}
    return any(id(variable) in known for variable in variables)


def outermost(models: list[Any]) -> list[Any]:
    """The models that are not part of another one."""
    inner: set[int] = set()
    for model in models:
        inner |= {id(layer) for layer in keras_private.inner_layers(model)}
        # A Sequential keeps a functional twin of itself, which is not among its layers.
        inner.add(id(keras_private.functional_twin(model)))
    return [model for model in models if id(model) not in inner]


def save_model(model: Any, folder: Path, index: int) -> None:
    """Save a model as `.keras`, or else its weights, or else nothing. The record has its digests in any case."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in model.name)
    # Some custom models cannot be serialized, but their weights can.
    for suffix, save in ((".keras", model.save), (".weights.h5", model.save_weights)):
        path = folder / f"{index}-{name}{suffix}"
        try:
            save(path)
            return
        except Exception:  # noqa: BLE001  a user's layer may raise anything
            path.unlink(missing_ok=True)
