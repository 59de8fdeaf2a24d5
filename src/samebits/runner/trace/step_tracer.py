"""Traces steps: decides which steps have a line in the ledger, and ends the run after its window.

A step is one call of an optimizer. In Keras's own loops, a callback at the end of each batch reports it. In a custom
loop, the step is traced after `Optimizer.apply` (see `graph_taps`). Nothing that determines bits is changed.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.trace_level import Batches, Trace, Window
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.tensorflow_private import in_xla_context
from samebits.runner.digests.tensors import DescribedTensor, model_variables
from samebits.runner.digests.trained_models import TrainedModel
from samebits.runner.process.console import log
from samebits.runner.trace.graph_taps import GraphTaps, TappedStep
from samebits.runner.trace.optimizer_tap import call_after
from samebits.runner.trace.step_records import Append, StepRecordWriter

WorkContext = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingStep:
    """A call of an optimizer: its step in a graph, if any, and the number of its variables before."""

    seen: TappedStep | None
    variables: int


class StepTracer:
    """Writes the lines of steps with `append`, and raises TraceEnded after the window.

    `guard` is the context for work in callbacks, and `tensors` the folder of `StepRecordWriter`. `trained` grows as
    models are trained. `after_steps` is called after steps with the index of the model and the number of steps, and
    may end the run. The tracer is the `Sink` of its taps.
    """

    def __init__(
        self,
        trace: Trace,
        append: Append,
        tensors: Path,
        *,
        guard: WorkContext,
        trained: Sequence[TrainedModel],
        after_steps: Callable[[int, int], None] | None = None,
    ) -> None:
        self._append = append
        self._writer = StepRecordWriter(trace, append, tensors)
        self._guard = guard
        self._trained = trained
        self._in_train_on_batch = 0
        self._reported: set[str] = set()
        self._window = Window(trace)
        self._writes_steps = trace.steps
        self._after_steps = after_steps or (lambda _model, _steps: None)
        self.steps = trace.steps or after_steps is not None
        self._taps = GraphTaps(self) if trace.values else None

    def install(self, patches: Patches) -> None:
        """Wrap the parts of Keras that make steps, as far as the level needs it."""
        import keras

        # Layers and tapes are wrapped only at level `tensor`, as this costs time.
        if self._taps is not None:
            self._taps.install(patches)
        if self.steps:
            patches.wrap((keras.Model, "train_on_batch"), self._wrap_train_on_batch)

    def turn_off(self, reason: str) -> None:
        """Trace no step; a line in the ledger gives the reason."""
        self.steps, self._taps = False, None
        self._append({"event": "trace off", "reason": reason})

    def before_step(self, optimizer: Any, gradients: Any, variables: list[Any] | None) -> PendingStep:
        """Called before an optimizer: capture its gradients, or tap them while a graph is traced."""
        seen = None if self._taps is None else self._taps.gradients(optimizer, gradients, variables)
        return PendingStep(seen=seen, variables=len(optimizer.variables))

    def after_step(self, optimizer: Any, pending: PendingStep) -> None:
        """Called after an optimizer: write the line of its step, or tap the step while a graph is traced."""
        import tensorflow as tf

        if pending.seen is not None:
            # TensorFlow traces a function that creates variables twice, and runs the second graph.
            pending.seen.provisional = len(optimizer.variables) > pending.variables
        # In Keras's own loops, the callback of `watcher` writes the line.
        if not self.steps or self._in_keras():
            return
        if tf.executing_eagerly():
            self._step(optimizer)
        elif in_xla_context():
            self.report("lines for steps that are compiled by XLA")
        else:
            # The tap must wait for the variables that its line describes.
            groups = [trained.variables() for _, trained in self._trained_by(optimizer)]
            variables = [variable for found in groups for group in found.values() for variable in group]
            self._tap(variables, optimizer, pending)

    def counts(self) -> dict[str, int]:
        """The number of steps that each loop has made."""
        return self._window.counts()

    def count_from(self, counts: Mapping[str, int]) -> None:
        """Restore the numbers of steps that `counts` returned."""
        self._window.count_from(counts)

    def watcher(self, fit: int, trained: TrainedModel) -> Any:
        """A callback for one call of `fit`; it must come after all others."""
        import keras

        class Steps(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
            epoch = begun = 0

            def on_epoch_begin(watcher, epoch: int, logs: Any = None) -> None:  # noqa: ARG002, N805
                watcher.epoch = epoch

            def on_train_batch_begin(watcher, batch: int, logs: Any = None) -> None:  # noqa: ARG002, N805
                watcher.begun = batch
                # Keras calls the callback once per execution, which may have several steps.
                last = batch + trained.target.steps_per_execution - 1
                self._window.begin(Batches(fit=fit, epoch=watcher.epoch, first=batch, last=last))

            def on_train_batch_end(watcher, batch: int, logs: Any = None) -> None:  # noqa: ARG002, N805
                with self._guard():
                    self._fitted(trained, Batches(fit=fit, epoch=watcher.epoch, first=watcher.begun, last=batch))

            def on_epoch_end(watcher, epoch: int, logs: Any = None) -> None:  # noqa: ARG002, N805
                self._window.leave()
                with self._guard():
                    self._window.end_epoch(fit, epoch)

            def on_train_end(watcher, logs: Any = None) -> None:  # noqa: ARG002, N805
                with self._guard():
                    self._window.end_fit(fit)

        return Steps()

    def left_fit(self) -> None:
        """Called when a `fit` ended, even with an exception."""
        self._window.leave()

    def wanted(self) -> bool:
        """Whether gradients and outputs of the current step belong to a line."""
        return self._window.may_include_step()

    def begin_pass(self) -> None:
        """Called when a tape begins to record while no other does."""
        with self._guard():
            self._writer.begin_pass()

    def capture(self, tap: int, outputs: list[DescribedTensor], gradients: list[DescribedTensor]) -> None:
        """Store what a tap captured."""
        with self._guard():
            self._writer.capture(tap, outputs, gradients)

    def report(self, missing: str) -> None:
        """Report once, on stderr, what the ledger lacks."""
        if missing not in self._reported:
            self._reported.add(missing)
            log(f"the ledger has no {missing}")

    def _tap(self, variables: list[Any], optimizer: Any, pending: PendingStep) -> None:
        try:
            tap = call_after(variables, lambda: self._step(optimizer))
        except Exception:  # noqa: BLE001  such as variables on several devices: the script continues
            self.report("lines for steps that cannot be tapped")
            return
        if pending.seen is not None:
            pending.seen.after = tap

    def _wrap_train_on_batch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def train_on_batch(model: Any, *args: Any, **kwargs: Any) -> Any:
            # `train_on_batch` calls the optimizer in its graph; the step is handled once it returned.
            self._in_train_on_batch += 1
            try:
                result = original(model, *args, **kwargs)
            finally:
                self._in_train_on_batch -= 1
            self._step(model.optimizer)
            return result

        return train_on_batch

    def _in_keras(self) -> bool:
        """Whether one of Keras's own loops is running, whose steps a callback reports."""
        return self._in_train_on_batch > 0 or any(trained.fitting for trained in self._trained)

    def _trained_by(self, optimizer: Any) -> list[tuple[int, TrainedModel]]:
        return [(number, trained) for number, trained in enumerate(self._trained) if trained.stepped_by(optimizer)]

    def _step(self, optimizer: Any) -> None:
        if not self._in_keras():
            with self._guard():
                self._loop_step(self._trained_by(optimizer))

    def _loop_step(self, numbered: list[tuple[int, TrainedModel]]) -> None:
        """Write lines for a step in a custom loop, one for each model that the optimizer trains."""
        # An optimizer may train several models, as in an encoder with a decoder.
        for number, trained in numbered:
            step = self._window.count(number)
            if self._writes_steps and self._window.includes_step(number, step):
                self._writer.write({"loop": number, "step": step}, trained.name, trained.variables())
        self._writer.forget()
        self._window.end_steps()
        # The number of steps is counted once, although several models may have lines.
        if numbered:
            self._after_steps(numbered[0][0], 1)

    def _fitted(self, trained: TrainedModel, batches: Batches) -> None:
        """Write the line for steps that `fit` made in one call of its graph."""
        if self._writes_steps and self._window.includes(batches):
            position = {"fit": batches.fit, "epoch": batches.epoch, "step": batches.last}
            self._writer.write(position, trained.name, model_variables(trained.target))
        self._writer.forget()
        self._window.end_batches(batches)
        self._after_steps(self._trained.index(trained), batches.last - batches.first + 1)
