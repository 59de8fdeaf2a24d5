"""Checkpoints of a loop wrapped in `samebits.checkpoint`: one after each iteration.

The script passes everything that its loop changes. What is easily forgotten is detected and reported: an optimizer that
makes steps, a pipeline that reshuffles, a random generator that the script uses.
"""

import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.core.errors import InputError, shorten
from samebits.core.ledger import Ledger, line_place
from samebits.runner.checkpoint.data import data_iterator
from samebits.runner.checkpoint.fit_phase import unbuilt_layers
from samebits.runner.checkpoint.graphs.loop_traces import LoopTraces
from samebits.runner.checkpoint.graphs.unsupported_ops import UnsupportedOpWatcher
from samebits.runner.checkpoint.ledger_line import confirm_restored
from samebits.runner.checkpoint.loop_statement import check_statement
from samebits.runner.checkpoint.loop_variables import LoopVariables, loop_frames
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.phases import Phase, StatePart, as_input_error
from samebits.runner.checkpoint.state.capture import StateCapture
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.checkpoint.state.global_rngs import generator_kinds
from samebits.runner.compat.patches import Patches
from samebits.runner.digests.tensors import (
    Comparison,
    describe_variables,
    group_digest,
    group_digests,
    ignore_comparison,
    model_variables,
)


@dataclass(kw_only=True, slots=True)
class LoopPhase(Phase):
    """One loop. `datasets` are the pipelines that it was passed, `opened` the initial state of their last iterators."""

    datasets: list[Any] = field(default_factory=list)
    opened: dict[int, Any] = field(default_factory=dict)
    variables: LoopVariables | None = None
    optimizers: list[Any] = field(default_factory=list)

    def check(self, captured: StateCapture) -> None:
        """Raise UncapturableError unless captured state could be restored, and what is not captured fits it then."""
        Phase.check(self, captured)
        if self.variables is not None:
            self.variables.check_places(captured)


class LoopCheckpoints:
    """Iterates for `samebits.checkpoint`, and saves and restores every loop."""

    def __init__(
        self, manager: CheckpointManager, ledger: Ledger, unsupported_ops: UnsupportedOpWatcher, traces: LoopTraces
    ) -> None:
        self._manager = manager
        self._unsupported_ops = unsupported_ops
        self._ledger = ledger
        self._traces = traces
        self.compare: Comparison = ignore_comparison

    def install(self, patches: Patches) -> None:
        """Wrap the creation of iterators over tf.data pipelines."""
        import tensorflow as tf

        patches.wrap((tf.data.Dataset, "__iter__"), self._wrap_iter)

    @property
    def _phase(self) -> LoopPhase | None:
        return self._manager.phase if isinstance(self._manager.phase, LoopPhase) else None

    def __call__(self, iterable: Iterable[Any], state: tuple[Any, ...], visible: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the items that are left of `iterable`.

        `state` is what the script passed; `visible` are all names that it can use at the call. Raises InputError.
        """
        # A loop within another phase belongs to that phase.
        if self._manager.phase is not None:
            yield from iterable
            return
        # A resumed run must skip the finished iterations, which an iterator may have consumed.
        if hasattr(iterable, "__next__"):
            raise InputError(
                "samebits.checkpoint needs an iterable that can start over, such as range(10), not an iterator"
            )
        phase = LoopPhase(number=0)
        with self._manager.next_phase(phase):
            frames = loop_frames(self._traces.is_ours)
            with self._manager.work():
                done = self._begin(phase, state, _generators(visible), frames)
            for number, item in enumerate(iterable):
                # A finished iteration is skipped without running its body.
                if number < done:
                    continue
                yield item
                with self._manager.work():
                    self._append_line(phase, number)
                    position = Position(phase=phase.number, epoch=number + 1)
                    self._manager.save(phase, position, lambda: self._part(phase))

    def stepping(self, optimizer: Any) -> None:
        """Called before an optimizer makes a step: refuse one that was not passed, as its state would not be saved."""
        if self._manager.phase is None:
            self._manager.step_outside(optimizer.name)
        phase = self._phase
        # A wrapper that scales the loss calls the inner optimizer.
        known = [inner for item in phase.optimizers for inner in _with_inner(item)] if phase is not None else []
        if phase is not None and not any(optimizer is item for item in known):
            self._manager.refuse(
                f"the optimizer {optimizer.name} makes steps in a samebits.checkpoint loop but was not passed to it;"
                " pass it, too"
            )

    def _begin(
        self,
        phase: LoopPhase,
        state: tuple[Any, ...],
        generators: Mapping[str, Any],
        frames: list[types.FrameType],
    ) -> int:
        """Restore the state where the loop resumes; returns the number of finished iterations."""
        import keras
        import tensorflow as tf

        phase.datasets = [item for item in state if isinstance(item, tf.data.Dataset)]
        others = [item for item in state if not isinstance(item, tf.data.Dataset)]
        # Models come first, as optimizers refer to their variables.
        others.sort(key=lambda item: not isinstance(item, keras.layers.Layer))
        phase.roots = {f"argument {index} ({type(item).__name__})": item for index, item in enumerate(others)}

        def check(found: StateCapture) -> None:
            phase.optimizers = found.optimizers
            for item in phase.datasets:
                data_iterator.check_data(item, "a tf.data pipeline passed to samebits.checkpoint")
                data_iterator.check_order(item)
            # The script may have called its step, and so traced it, before the loop.
            for reason in self._unsupported_ops.outside_phases:
                self._manager.refuse(reason)
            _check_passed(found.number_of, generators)
            _check_built(others)
            if self._manager.writes:
                check_statement(frames)
                phase.variables = LoopVariables(frames, self._manager.walker, found)

        found = self._manager.begin(phase, check, kept=True)
        if found is not None:
            self._restore_datasets(phase, found)
            self._manager.restore(phase, found)
            self._traces.restore(phase.roots, found.state)
            place = {"event": "round", "stage": phase.number, "round": found.position.epoch - 1}
            confirm_restored(self._ledger, found, place, _digests(phase))
        if self._manager.writes:
            models = [item for item in others if isinstance(item, keras.Model)]
            self._manager.attempt(lambda: self._traces.begin(models))
        return 0 if found is None else found.position.epoch

    def _restore_datasets(self, phase: LoopPhase, found: Checkpoint) -> None:
        saved = found.state["datasets"]
        with as_input_error(found.position):
            if len(saved) != len(phase.datasets):
                raise UncapturableError("different tf.data pipelines are passed when the script runs again")
            for dataset, (iterator, captured) in zip(phase.datasets, saved, strict=True):
                # Only the state of a reshuffling pipeline is saved.
                if iterator is not None:
                    data_iterator.restore_dataset(dataset, iterator)
                data_iterator.restore_captured(dataset, captured)

    def _part(self, phase: LoopPhase) -> StatePart:
        self._traces.check()
        if phase.variables is not None:
            phase.variables.check()
        captured = [
            (phase.opened.get(id(dataset)), data_iterator.captured_state(dataset)) for dataset in phase.datasets
        ]
        return StatePart(values={"datasets": captured, **self._traces.capture(phase.roots)})

    def _append_line(self, phase: LoopPhase, number: int) -> None:
        """Write the ledger's line for an iteration."""
        groups = _groups(phase)
        described = {name: describe_variables(variables) for name, variables in groups.items()}
        line = {"event": "round", "stage": phase.number, "round": number}
        digests = {name: group_digest(about) for name, about in described.items()}
        self._ledger.append({**line, "tensors": digests})
        self.compare(self._ledger.lines, line_place(line), groups, described)

    def _wrap_iter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def opened(dataset: Any) -> Any:
            iterator = original(dataset)
            phase = self._phase
            # Opened by `fit` itself, or to restore its state; or within a `fit`, see `pipeline_openings`.
            if data_iterator.is_followed() or phase is None:
                return iterator
            if any(dataset is known for known in phase.datasets):
                phase.opened[id(dataset)] = data_iterator.initial_state(dataset, iterator)
            elif data_iterator.carries_state(dataset):
                self._manager.refuse(
                    "a tf.data pipeline that reshuffles, or changes variables, is iterated in a samebits.checkpoint"
                    " loop but was not passed to it; pass it, too"
                )
            return iterator

        return opened


def _digests(phase: LoopPhase) -> dict[str, str]:
    """A digest of each group of variables that the loop was passed."""
    return group_digests(_groups(phase))


def _groups(phase: LoopPhase) -> dict[str, list[Any]]:
    """The variables that the loop was passed, by group."""
    import keras

    found: dict[str, list[Any]] = {}
    for name, item in phase.roots.items():
        groups = model_variables(item) if isinstance(item, keras.layers.Layer) else {}
        if isinstance(item, keras.optimizers.Optimizer):
            groups = {"optimizer": list(item.variables)}
        found |= {f"{name}/{group}": variables for group, variables in groups.items()}
    return found


def _with_inner(optimizer: Any) -> list[Any]:
    """An optimizer, and the inner one if it is a wrapper that scales the loss."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return [optimizer] if inner is None else [optimizer, inner]


def _generators(visible: Mapping[str, Any]) -> dict[str, Any]:
    """The random generators among the names that a script can use."""
    import keras

    kinds = (*generator_kinds(), keras.random.SeedGenerator)
    return {name: value for name, value in visible.items() if isinstance(value, kinds)}


def _check_built(passed: Iterable[Any]) -> None:
    import keras

    # What the first call builds, nothing builds before a checkpoint is restored.
    for model in passed:
        unbuilt = unbuilt_layers(model) if isinstance(model, keras.Model) else []
        if unbuilt:
            raise UncapturableError(
                f"{model.name} is not built before the samebits.checkpoint loop ({shorten(unbuilt, 3)}); call it once"
                " on a batch before the loop, or give it a keras.Input"
            )


def _check_passed(number_of: Callable[[Any], int | None], generators: Mapping[str, Any]) -> None:
    for name, value in generators.items():
        if number_of(value) is None:
            raise UncapturableError(f"the random generator {name} was not passed to samebits.checkpoint; pass it, too")
