"""Checkpoints of a loop of the script's own, around `samebits.checkpoint`: one behind each round.

What such a loop changes is what the script names. What is easily forgotten, and would be missed, is looked for: an
optimizer that makes steps, a pipeline that reshuffles, a random generator in the script's hands.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.core.errors import InputError
from samebits.core.ledger import Ledger
from samebits.runner.checkpoint import data_iterator as feeding
from samebits.runner.checkpoint.capture import StateCapture
from samebits.runner.checkpoint.encoding import UncapturableError
from samebits.runner.checkpoint.global_rngs import generator_kinds
from samebits.runner.checkpoint.manager import CheckpointManager, Phase, StatePart, as_input
from samebits.runner.checkpoint.unsupported_ops import UnsupportedOpWatcher
from samebits.runner.compat.patches import Patches
from samebits.runner.digests.tensors import describe_variables, group_digest, model_variables


@dataclass(kw_only=True, slots=True)
class LoopPhase(Phase):
    """`datasets` are the pipelines that were named, `opened` what each began from when it was opened last."""

    datasets: list[Any] = field(default_factory=list)
    opened: dict[int, Any] = field(default_factory=dict)
    optimizers: list[Any] = field(default_factory=list)


class LoopCheckpoints:
    """Gives the rounds of every loop around `samebits.checkpoint`."""

    def __init__(self, keeper: CheckpointManager, ledger: Ledger, out_of_reach: UnsupportedOpWatcher) -> None:
        self._keeper = keeper
        self._out_of_reach = out_of_reach
        self._ledger = ledger

    def install(self, patches: Patches) -> None:
        """Follow which pipelines are opened."""
        import tensorflow as tf

        patches.wrap((tf.data.Dataset, "__iter__"), self._wrap_iter)

    @property
    def _stage(self) -> LoopPhase | None:
        return self._keeper.stage if isinstance(self._keeper.stage, LoopPhase) else None

    def __call__(self, rounds: Iterable[Any], state: tuple[Any, ...], held: Mapping[str, Any]) -> Iterator[Any]:
        """The rounds that are still to be made; `held` is what the script has under names where it asks for them."""
        if self._keeper.stage is not None:
            yield from rounds
            return
        if hasattr(rounds, "__next__"):
            raise InputError("samebits.checkpoint needs rounds that can begin anew, such as range(10), not an iterator")
        stage = LoopPhase(number=0)
        with self._keeper.next_stage(stage):
            with self._keeper.work():
                done = self._begin(stage, state, _generators(held))
            for number, item in enumerate(rounds):
                if number < done:
                    continue
                yield item
                with self._keeper.work():
                    self._ledger.append(self._line(stage, number))
                    place = Position(phase=stage.number, epoch=number + 1)
                    self._keeper.keep(stage, place, lambda: self._part(stage))

    def stepping(self, optimizer: Any) -> None:
        """An optimizer makes a step: one that was not named would be missed."""
        stage = self._stage
        known = [inner for item in stage.optimizers for inner in _with_inner(item)] if stage is not None else []
        if stage is not None and not any(optimizer is item for item in known):
            self._keeper.refuse(
                f"the optimizer {optimizer.name} makes steps in a loop around samebits.checkpoint, without being named"
                " to it"
            )

    def _begin(self, stage: LoopPhase, state: tuple[Any, ...], held: Mapping[str, Any]) -> int:
        """Put the state to where the loop goes on; returns how many rounds are done."""
        import keras
        import tensorflow as tf

        stage.datasets = [item for item in state if isinstance(item, tf.data.Dataset)]
        others = [item for item in state if not isinstance(item, tf.data.Dataset)]
        others.sort(key=lambda item: not isinstance(item, keras.layers.Layer))  # optimizers name their variables
        stage.roots = {f"argument {index} ({type(item).__name__})": item for index, item in enumerate(others)}

        def check(found: StateCapture) -> None:
            stage.optimizers = found.optimizers
            for item in stage.datasets:
                feeding.check_data(item, "a tf.data pipeline that was named")
                feeding.check_order(item)
            for reason in self._out_of_reach.before:  # the step may have been tried before the loop
                self._keeper.refuse(reason)
            _check_named(found.reached, held)

        found = self._keeper.begin(stage, check)
        if found is None:
            return 0
        self._put_datasets_back(stage, found)
        self._keeper.put_back(stage, found)
        return found.position.epoch

    def _put_datasets_back(self, stage: LoopPhase, found: Checkpoint) -> None:
        saved = found.state["datasets"]
        with as_input(found.position):
            if len(saved) != len(stage.datasets):
                raise UncapturableError("other tf.data pipelines are named when the script runs again")
            for dataset, (iterator, captured) in zip(stage.datasets, saved, strict=True):
                if iterator is not None:
                    feeding.restore_dataset(dataset, iterator)
                feeding.restore_captured(dataset, captured)

    def _part(self, stage: LoopPhase) -> StatePart:
        taken = [(stage.opened.get(id(dataset)), feeding.captured_state(dataset)) for dataset in stage.datasets]
        return StatePart(values={"datasets": taken})

    def _line(self, stage: LoopPhase, number: int) -> dict[str, object]:
        """What the ledger has of a round: a digest for each group of variables of what was named."""
        import keras

        tensors = {}
        for name, item in stage.roots.items():
            groups = model_variables(item) if isinstance(item, keras.layers.Layer) else {}
            if isinstance(item, keras.optimizers.Optimizer):
                groups = {"optimizer": item.variables}
            for group, variables in groups.items():
                tensors[f"{name}/{group}"] = group_digest(describe_variables(variables))
        return {"event": "round", "stage": stage.number, "round": number, "tensors": tensors}

    def _check_beside(self, dataset: Any) -> None:
        """A callback may iterate a pipeline, or evaluate on one, in the midst of a `fit`."""
        stage = self._keeper.stage
        if getattr(stage, "callbacks", None) is None or not feeding.reshuffles(dataset):
            return
        self._keeper.refuse(
            "a callback iterates, or evaluates on, a tf.data pipeline that reshuffles; let it not reshuffle"
        )

    def _wrap_iter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def opened(dataset: Any) -> Any:
            iterator = original(dataset)
            stage = self._stage
            if feeding.is_followed():
                return iterator
            if stage is None:
                self._check_beside(dataset)
            elif any(dataset is known for known in stage.datasets):
                stage.opened[id(dataset)] = feeding.begins(dataset, iterator)
            elif feeding.carries_state(dataset):
                self._keeper.refuse(
                    "a tf.data pipeline that reshuffles, or changes variables, is iterated in a loop around"
                    " samebits.checkpoint, and is not named to it"
                )
            return iterator

        return opened


def _with_inner(optimizer: Any) -> list[Any]:
    """An optimizer, and the one that it wraps to scale the loss."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return [optimizer] if inner is None else [optimizer, inner]


def _generators(held: Mapping[str, Any]) -> dict[str, Any]:
    """The random generators among what a script holds."""
    import keras

    kinds = (*generator_kinds(), keras.random.SeedGenerator)
    return {name: value for name, value in held.items() if isinstance(value, kinds)}


def _check_named(reached: Callable[[Any], bool], held: Mapping[str, Any]) -> None:
    for name, value in held.items():
        if not reached(value):
            raise UncapturableError(f"the random generator {name} is not named to samebits.checkpoint; name it, too")
