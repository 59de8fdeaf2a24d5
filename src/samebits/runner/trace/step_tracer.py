"""Steps as they are made: which of them have a line in the ledger, and where the run ends behind its window.

A step is one call of an optimizer. In Keras's own loops it is seen from outside the graph, by a callback at the end of
each batch; in a loop of the script's own behind `Optimizer.apply` (see `taps`). Nothing that decides bits is touched.
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

Guard = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingStep:
    """A call of an optimizer: what was seen of its step in a graph, and how many variables it had."""

    seen: TappedStep | None
    variables: int


class StepTracer:
    """Writes the lines for steps by `append`, and ends the run behind its window by raising TraceEnded.

    Work in callbacks is done under `guard`; `tensors` is as `StepLines` has it; `trained` grows as models are trained;
    `behind_steps` is called behind steps with the number of the model and how many they were, and may end the run.
    It is what taps hand over to (`Sink`).
    """

    def __init__(
        self,
        trace: Trace,
        append: Append,
        tensors: Path,
        *,
        guard: Guard,
        trained: Sequence[TrainedModel],
        behind_steps: Callable[[int, int], None] | None = None,
    ) -> None:
        self._append = append
        self._lines = StepRecordWriter(trace, append, tensors)
        self._guard = guard
        self._trained = trained
        self._batching = 0
        self._said: set[str] = set()
        self._window = Window(trace)
        self._written = trace.steps
        self._behind_steps = behind_steps or (lambda _model, _steps: None)
        self.steps = trace.steps or behind_steps is not None
        self._taps = GraphTaps(self) if trace.values else None

    def install(self, patches: Patches) -> None:
        """Wrap what of Keras steps are seen by, as far as the level asks for it."""
        import keras

        if self._taps is not None:
            self._taps.install(patches)
        if self.steps:
            patches.wrap((keras.Model, "train_on_batch"), self._wrap_train_on_batch)

    def turn_off(self, reason: str) -> None:
        """Look at no step; a ledger that was to have lines for steps says why it has none."""
        self.steps, self._taps = False, None
        self._append({"event": "trace off", "reason": reason})

    def before_step(self, optimizer: Any, gradients: Any, variables: list[Any] | None) -> PendingStep:
        """An optimizer is called; what it was called with is taken, or tapped where it is traced."""
        seen = None if self._taps is None else self._taps.gradients(optimizer, gradients, variables)
        return PendingStep(seen=seen, variables=len(optimizer.variables))

    def behind_step(self, optimizer: Any, pending: PendingStep) -> None:
        """It came back: have the step written down that it made, or that is traced here."""
        import tensorflow as tf

        if pending.seen is not None:
            pending.seen.provisional = len(optimizer.variables) > pending.variables
        if not self.steps or self._in_keras():
            return
        if tf.executing_eagerly():
            self._step(optimizer)
        elif in_xla_context():
            self.report("lines for steps that are compiled by XLA")
        else:
            groups = [trained.variables() for _, trained in self._trained_by(optimizer)]
            variables = [variable for found in groups for group in found.values() for variable in group]
            self._tap(variables, optimizer, pending)

    def counts(self) -> dict[str, int]:
        """How many steps each loop has made."""
        return self._window.counts()

    def count_from(self, counts: Mapping[str, int]) -> None:
        """Loops have made so many steps before the run was resumed."""
        self._window.count_from(counts)

    def watcher(self, fit: int, trained: TrainedModel) -> Any:
        """A callback for one call of `fit`, to stand behind all others."""
        import keras

        class Steps(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
            epoch = begun = 0

            def on_epoch_begin(watcher, epoch: int, logs: Any = None) -> None:  # noqa: ARG002, N805
                watcher.epoch = epoch

            def on_train_batch_begin(watcher, batch: int, logs: Any = None) -> None:  # noqa: ARG002, N805
                watcher.begun = batch
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
        """A call of `fit` is over, also where it raised."""
        self._window.leave()

    def wanted(self) -> bool:
        """Whether gradients and outputs of the step that now goes on belong into a line."""
        return self._window.may_include_step()

    def begin_pass(self) -> None:
        """A tape begins to record while none does."""
        with self._guard():
            self._lines.begin_pass()

    def take(self, tap: int, outputs: list[DescribedTensor], gradients: list[DescribedTensor]) -> None:
        """What a tap saw."""
        with self._guard():
            self._lines.take(tap, outputs, gradients)

    def report(self, what: str) -> None:
        """Say on stderr, once, what the ledger does not have."""
        if what not in self._said:
            self._said.add(what)
            log(f"the ledger has no {what}")

    def _tap(self, variables: list[Any], optimizer: Any, pending: PendingStep) -> None:
        try:
            tap = call_after(variables, lambda: self._step(optimizer))
        except Exception:  # noqa: BLE001  as with variables that are spread over devices: the script goes on
            self.report("lines for steps that cannot be tapped")
            return
        if pending.seen is not None:
            pending.seen.behind = tap

    def _wrap_train_on_batch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def train_on_batch(model: Any, *args: Any, **kwargs: Any) -> Any:
            self._batching += 1
            try:
                answer = original(model, *args, **kwargs)
            finally:
                self._batching -= 1
            self._step(model.optimizer)
            return answer

        return train_on_batch

    def _in_keras(self) -> bool:
        """Whether a loop of Keras goes on, in which steps are seen from outside."""
        return self._batching > 0 or any(trained.fitting for trained in self._trained)

    def _trained_by(self, optimizer: Any) -> list[tuple[int, TrainedModel]]:
        return [(number, trained) for number, trained in enumerate(self._trained) if trained.stepped_by(optimizer)]

    def _step(self, optimizer: Any) -> None:
        if not self._in_keras():
            with self._guard():
                self._loop_step(self._trained_by(optimizer))

    def _loop_step(self, numbered: list[tuple[int, TrainedModel]]) -> None:
        """The models that an optimizer just trained, outside of Keras's loops, each with its number."""
        for number, trained in numbered:
            step = self._window.count(number)
            if self._written and self._window.includes_step(number, step):
                self._lines.write({"loop": number, "step": step}, trained.name, trained.variables())
        self._lines.forget()
        self._window.end_steps()
        if numbered:
            self._behind_steps(numbered[0][0], 1)

    def _fitted(self, trained: TrainedModel, batches: Batches) -> None:
        """`fit` came back from these steps."""
        if self._written and self._window.includes(batches):
            place = {"fit": batches.fit, "epoch": batches.epoch, "step": batches.last}
            self._lines.write(place, trained.name, model_variables(trained.target))
        self._lines.forget()
        self._window.end_batches(batches)
        self._behind_steps(self._trained.index(trained), batches.last - batches.first + 1)
