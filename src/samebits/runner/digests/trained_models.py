"""Trained models: whose variables an optimizer trains, what belongs to a model, and how it is saved."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.core.result import ModelResult
from samebits.runner.compat import keras_private
from samebits.runner.digests.tensors import model_variables


@dataclass(kw_only=True, slots=True)
class TrainedModel:
    """One model (or, without one, the variables of an optimizer) that was trained; `settled` once it is digested."""

    name: str
    how: str
    target: Any
    optimizers: list[Any] = field(default_factory=list)
    fitting: int = 0
    settled: ModelResult | None = None

    def variables(self) -> dict[str, list[Any]]:
        """All that belongs to it, by group."""
        groups = {} if self.target is None else model_variables(self.target)
        for number, optimizer in enumerate(self.optimizers):
            groups[f"loop_optimizer_{number}"] = list(optimizer.variables)
            if self.target is None:
                groups["variables"] = trained_by(optimizer)
        return groups

    def stepped_by(self, optimizer: Any) -> bool:
        """Whether it is trained by this optimizer, and not settled yet."""
        own = self.target is not None and getattr(self.target, "optimizer", None) is optimizer
        return self.settled is None and (own or any(known is optimizer for known in self.optimizers))


def trained_by(optimizer: Any) -> list[Any]:
    """The variables that an optimizer was built for."""
    return keras_private.trained_variables(optimizer)


def owns(model: Any, variables: list[Any]) -> bool:
    """Whether any of the variables is the model's."""
    known = {id(variable) for variable in model.trainable_variables}
    return any(id(variable) in known for variable in variables)


def outermost(models: list[Any]) -> list[Any]:
    """Those that are no part of another one; a Sequential keeps a functional twin of itself besides its layers."""
    inner: set[int] = set()
    for model in models:
        inner |= {id(layer) for layer in keras_private.inner_layers(model)}  # also nested ones
        inner.add(id(keras_private.functional_twin(model)))
    return [model for model in models if id(model) not in inner]


def save_model(model: Any, folder: Path, index: int) -> None:
    """Save a trained model as `.keras`, else its weights alone, else nothing: the digests are kept either way."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in model.name)
    for suffix, save in ((".keras", model.save), (".weights.h5", model.save_weights)):
        path = folder / f"{index}-{name}{suffix}"
        try:
            save(path)
            return
        except Exception:  # noqa: BLE001  whatever a user's layer raises
            path.unlink(missing_ok=True)
