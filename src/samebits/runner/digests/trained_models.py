"""Trained models: which optimizer trains them, which variables belong to them, and how they are saved."""

import errno
import os
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.core.jsonio import storage_error
from samebits.core.result import ModelResult
from samebits.runner.compat import keras_private
from samebits.runner.digests.tensors import model_variables

HELD = "held"


@dataclass(kw_only=True, slots=True)
class TrainedModel:
    """One trained model, or variables without a model: an optimizer's, or `bare` ones. `settled` is its result.

    `how` is what trained it: `fit`, an optimizer in a `loop`, or neither: a script may assign the variables of any
    layer that it has `held`.
    """

    name: str
    how: str
    target: Any
    optimizers: list[Any] = field(default_factory=list)
    bare: list[Any] = field(default_factory=list)
    fitting: int = 0
    settled: ModelResult | None = None

    def variables(self) -> dict[str, list[Any]]:
        """All its variables by group, including those of its optimizers."""
        groups = {} if self.target is None else model_variables(self.target)
        for number, optimizer in enumerate(self.optimizers):
            groups[f"loop_optimizer_{number}"] = list(optimizer.variables)
            if self.target is None:
                groups["variables"] = trained_by(optimizer)
        if self.bare:
            groups["variables"] = self.bare
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


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
_HDF5_ERRNO = re.compile(r"\berrno = (\d+)")


def save_model(model: Any, folder: Path, index: int) -> str | None:
    """Save a model as `.keras`, or else its weights, or else nothing; then return why.

    The record has its digests in any case. Raises StorageError where the disk does not take the file.
    """
    reason = ""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in model.name)
    # Some custom models cannot be serialized, but their weights can.
    for suffix, save in ((".keras", model.save), (".weights.h5", model.save_weights)):
        path = folder / f"{index}-{name}{suffix}"
        try:
            save(path)
            _check_written(path)
            return None
        except Exception as error:
            path.unlink(missing_ok=True)
            if (full := _storage_error(error)) is not None:
                raise storage_error(full, path) from error
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return reason


def _check_written(path: Path) -> None:
    """Raise OSError where a file is not complete, although nothing was raised while it was written."""
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise OSError(errno.EIO, "the file is not complete")


def _storage_error(error: BaseException | None) -> OSError | None:
    """The error of the disk behind an exception; HDF5 names it in its text only."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number is None and (named := _HDF5_ERRNO.search(str(error))):
            number = int(named[1])
        if number in _FULL:
            return OSError(number, os.strerror(number))
        error = error.__cause__ or error.__context__
    return None
