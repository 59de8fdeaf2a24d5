"""Digests, saves and releases the models of a run, each once, with all else that was changed."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from samebits.core.errors import StorageError
from samebits.core.result import Coverage, ModelResult, TensorDescription
from samebits.runner.digests.tensors import DescribedGroups, VariableGroups, describe_variables, group_digest
from samebits.runner.digests.trained_models import HELD, TrainedModel, save_model
from samebits.runner.observe.inventory import Inventory


class Settling:
    """Settles the models in `trained`, and adds to them what nobody trained. Models are saved in a folder."""

    def __init__(
        self,
        trained: list[TrainedModel],
        inventory: Inventory,
        folder: Path,
        compare: Callable[[str, VariableGroups, DescribedGroups], None] = lambda *_: None,
    ) -> None:
        self._trained = trained
        self._inventory = inventory
        self._folder = folder
        self._compare = compare
        self._unsaved: list[str] = []

    def coverage(self) -> Coverage:
        """What the result leaves out; call it after `finish`."""
        return Coverage(discarded=self._inventory.count_discarded(), unsaved=tuple(self._unsaved))

    def keep_models(self) -> None:
        """Save the models so far, where the run ends before they could be digested."""
        for index, trained in enumerate(self._trained):
            if trained.settled is None and trained.target is not None:
                with suppress(StorageError):
                    save_model(trained.target, self._folder, index)

    def settle_others(self, *, all_alive: bool) -> None:
        """Digest the layers and models that no `fit` and no optimizer trained: those that were assigned, or all."""
        elsewhere = [
            variable
            for trained in self._trained
            if trained.settled is None
            for variables in trained.variables().values()
            for variable in variables
        ]
        for layer in self._inventory.uncovered_layers(all_alive=all_alive, others=elsewhere):
            self._trained.append(TrainedModel(name=layer.name, how=HELD, target=layer))
            if self._inventory.was_assigned(layer) and hasattr(layer, "save_weights"):
                self._save(len(self._trained) - 1)
            self.settle(len(self._trained) - 1)

    def settle_variables(self) -> None:
        """Digest the variables that belong to no layer."""
        if bare := self._inventory.uncovered_variables():
            self._trained.append(TrainedModel(name="variables", how="variables", target=None, bare=bare))
            self.settle(len(self._trained) - 1)

    def _save(self, index: int) -> None:
        trained = self._trained[index]
        reason = save_model(trained.target, self._folder, index)
        if reason is not None:
            self._unsaved.append(f"{trained.name}: {reason}")

    def settle(self, index: int) -> None:
        """Digest and save a trained model, then release it."""
        trained = self._trained[index]
        if trained.settled is not None:
            return
        groups = trained.variables()
        tensors = {name: describe_variables(variables) for name, variables in groups.items()}
        self._compare(trained.name, groups, tensors)
        if trained.target is not None and trained.how != HELD:
            self._save(index)
        for variables in groups.values():
            self._inventory.cover(variables, trained.target)
        described = [{"group": group, "tensors": listed} for group, listed in sorted(tensors.items())]
        trained.settled = ModelResult(
            name=trained.name,
            how=trained.how,
            tensors={group: tuple(map(_tensor, listed)) for group, listed in tensors.items()},
            digest=group_digest(described),
        )
        # Release the model, as the script expects after `clear_session`.
        trained.target = None
        trained.optimizers, trained.bare = [], []


def _tensor(described: Mapping[str, Any]) -> TensorDescription:
    return TensorDescription(**{**described, "shape": tuple(described["shape"])})
