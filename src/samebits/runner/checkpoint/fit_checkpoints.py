"""Checkpoints of `fit`: after epochs and, if requested, within epochs after every N steps.

Hooks on `CallbackList` report progress; `data_iterator` replaces Keras's iterator over epochs. To resume within an
epoch, the data of its finished steps is drawn again, and then all else is restored.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.runner.checkpoint.data import data_iterator
from samebits.runner.checkpoint.drawn_data import DrawnByData, drawn_by_data
from samebits.runner.checkpoint.fit_order import FitOrder
from samebits.runner.checkpoint.fit_phase import (
    FINISHED,
    FitPhase,
    build,
    check_arguments,
    check_fit_data,
    check_separate,
    exact_logs,
    final_metrics,
    fit_roots,
    metric_roots,
    stateful_data,
    unbuilt_layers,
    validation_state,
)
from samebits.runner.checkpoint.graphs.loop_traces import LoopTraces
from samebits.runner.checkpoint.graphs.trace_inputs import TraceGuard
from samebits.runner.checkpoint.ledger_line import confirm_fit, confirm_step
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.phases import StatePart, as_input_error
from samebits.runner.checkpoint.state.code_inspection import calling_function
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.compat import epoch_iterator, keras_private
from samebits.runner.compat.patches import Patches
from samebits.runner.process.console import log
from samebits.runner.process.signals import Signals


class FitCheckpoints:
    """Saves and restores every `fit`, and ends it at a signal that waits for a checkpoint.

    `traces` knows what the steps of models were traced with, `functions` what the script's own functions were.
    """

    def __init__(self, manager: CheckpointManager, signals: Signals, traces: TraceGuard, functions: LoopTraces) -> None:
        self._manager = manager
        self._signals = signals
        self._traces = traces
        self._functions = functions
        self._order = FitOrder(manager)
        self._warned = False
        self._fits = 0

    def install(self, patches: Patches) -> None:
        """Wrap the parts of Keras that report the progress of a `fit`."""
        import keras

        hooks = {
            "on_train_begin": self._train_begun,
            "on_epoch_begin": self._epoch_begun,
            "on_train_batch_end": self._batch_done,
            "on_epoch_end": self._epoch_done,
        }
        for name, hook in hooks.items():
            patches.wrap((keras.callbacks.CallbackList, name), functools.partial(self._after, hook=hook))
        patches.wrap((keras.callbacks.CallbackList, "on_train_end"), self._wrap_train_end)
        self._traces.install(patches)
        data_iterator.install_data_hooks(
            patches,
            making=self._order.making,
            made=self._feed_made,
            begun=self._data_begun,
            read=self._order.note_read,
            skipped=self._data_skipped,
            opened=self._order.note,
        )
        self._order.install(patches)

    @property
    def can_wait(self) -> bool:
        """Whether a checkpoint can be written after the next step."""
        phase = self._phase
        # Several workers would have to agree on the step.
        able = self._manager.writes and self._manager.workers == 1
        return able and phase is not None and phase.callbacks is not None and phase.resumed is None

    @property
    def ends_epochs(self) -> bool:
        """Whether the end of this epoch is handled here, after all callbacks."""
        return self._phase is not None and self._phase.callbacks is not None

    @property
    def _phase(self) -> FitPhase | None:
        return self._order.phase

    @contextmanager
    def fit(self, model: Any, arguments: Mapping[str, Any]) -> Iterator[None]:
        """A context for one call of `fit`. A call within another phase belongs to that phase."""
        self._fits += 1
        if threading.current_thread() is not threading.main_thread():
            self._manager.refusals.began = True
            self._manager.refuse(f"{model.name} is fitted in a thread of its own; call fit in the main thread")
            yield
            return
        if self._manager.phase is not None:
            if not isinstance(self._manager.phase, FitPhase):
                self._manager.attempt(lambda: check_arguments(arguments))
                self._manager.attempt(lambda: check_separate(arguments))
            yield
            return
        kept_epoch = keras_private.kept_initial_epoch(model) if self._manager.active else nullcontext()
        phase = FitPhase(number=0, fit=self._fits - 1, model=model, arguments=arguments)
        with self._manager.next_phase(phase), kept_epoch:
            yield
            self._traces.end(phase)

    def _after(self, original: Callable[..., Any], hook: Callable[..., None]) -> Callable[..., Any]:
        """Call a hook after a method of the phase's own list of callbacks."""

        @functools.wraps(original)
        def method(callbacks: Any, *args: Any, **kwargs: Any) -> Any:
            answer = original(callbacks, *args, **kwargs)
            # An evaluation within `fit` has a list of callbacks of its own.
            phase = self._phase
            if phase is not None and phase.callbacks is None and callbacks.model is phase.model:
                phase.callbacks = callbacks
            if phase is not None and phase.callbacks is callbacks:
                hook(phase, *args, **kwargs)
            return answer

        return method

    def _wrap_train_end(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Give callbacks the logs of the original run at the end of a finished `fit`, which trains no epoch itself."""

        @functools.wraps(original)
        def on_train_end(callbacks: Any, logs: Any = None) -> Any:
            phase = self._phase
            if logs is None and phase is not None and phase.callbacks is callbacks:
                logs = phase.last_logs()
            return original(callbacks, logs)

        return on_train_end

    def _feed_made(self, feed: Any) -> None:
        """Keras created an iterator over epochs; it belongs to the phase if `fit` itself created it."""
        phase, caller = self._phase, calling_function(2)
        if self._manager.epoch_steps is not None and caller in ("fit", "evaluate"):
            epoch_iterator.limit_steps(feed, self._manager.epoch_steps)
        if phase is None or caller != "fit":
            return
        feed.followed = True
        if phase.feed is None:
            phase.feed = feed
        # `fit` creates the iterator over its validation data later, and keeps it.
        elif phase.validation is not None:
            with self._manager.work(), as_input_error(None):
                self._order.restore_validation(phase, feed)

    def _train_begun(self, phase: FitPhase, *_: Any) -> None:
        with self._manager.work():
            # Known only now, as `fit` adds callbacks of its own.
            phase.roots = fit_roots(phase)
            phase.builds = bool(unbuilt_layers(phase.model))
            self._order.begin_phase()
            found = self._manager.begin(phase, lambda _: check_fit_data(phase, self._manager, self._order.openings))
            self._traces.begin(phase)
            if found is None:
                return
            if phase.builds:
                with as_input_error(found.position):
                    build(phase, self._manager, found)
            self._functions.restore(phase.roots, found.state)
            phase.validation = found.state.get("validation")
            within_epoch = found.position.step is not None
            first = self._begin_within_epoch(phase, found) if within_epoch else self._begin_after_epoch(phase, found)
            keras_private.set_initial_epoch(phase.model, first)

    def _begin_after_epoch(self, phase: FitPhase, found: Checkpoint) -> int:
        """Restore a checkpoint at the end of an epoch; returns the first epoch to train."""
        state = found.state
        with as_input_error(found.position):
            self._order.restore(phase.feed, state["feed"], state.get("openings"), drawn=True)
            metrics = final_metrics(phase, found)
        self._manager.restore(phase, found, more=metrics)
        confirm_fit(self._manager.ledger, found, phase)
        # It may have built the model.
        self._traces.note(phase)
        phase.logs = state["logs"]
        phase.drawn = True
        # Keras resets metrics when an epoch begins, but in this process not before the first batch built their list.
        keras_private.reset_also_unbuilt(phase.model)
        return FINISHED if state["over"] else found.position.epoch

    def _begin_within_epoch(self, phase: FitPhase, found: Checkpoint) -> int:
        """Restore what the beginning of the epoch needs; `_data_skipped` restores the rest. Returns that epoch."""
        self._manager.resume_ledger(found)
        self._manager.restore_objects(found.state["objects"], phase.roots, without=frozenset({"metrics"}))
        phase.resumed = found
        phase.feed.skip = found.position.step
        return found.position.epoch

    def _epoch_begun(self, phase: FitPhase, epoch: int, *_: Any) -> None:
        phase.epoch = epoch
        phase.trained = True

    def _data_begun(self, feed: Any) -> None:
        """Called before the iterator over an epoch's data is created."""
        phase = self._phase
        if phase is None or phase.callbacks is None or feed is not phase.feed:
            return
        with self._manager.work():
            if phase.resumed is not None:
                begun = phase.resumed.state["begun"]
                with as_input_error(phase.resumed.position):
                    self._order.restore(phase.feed, begun["feed"], begun.get("openings"), drawn=begun["drawn"])
                self._manager.restore_objects(begun["objects"], stateful_data(phase))
                phase.drawn = begun["drawn"]
                # The store has the bytes already, so that only their digests are needed.
                phase.begun = StatePart(values=begun, contents=dict.fromkeys(begun["named"]))
            # Several workers write no checkpoint within an epoch.
            elif self._manager.writes and self._manager.workers == 1:
                phase.begun = self._manager.attempt(lambda: self._data_state(phase))

    def _data_state(self, phase: FitPhase) -> StatePart:
        """The state from which the data of an epoch begins."""
        captured = self._manager.capture(stateful_data(phase))
        phase.mark(captured)
        values = {
            "feed": data_iterator.capture_feed(phase.feed),
            "openings": self._order.capture(),
            "objects": captured.encoded,
            "named": sorted(captured.contents),
            "drawn": phase.drawn,
        }
        return StatePart(values=values, contents=captured.contents)

    def _data_skipped(self, feed: Any) -> None:
        """Called when the data of the finished steps has been drawn again: restore everything else."""
        phase = self._phase
        if phase is None or feed is not phase.feed or phase.resumed is None:
            return
        found, phase.resumed = phase.resumed, None
        with self._manager.work():
            metrics = keras_private.compile_metrics(phase.model)
            # Metrics are built by their first batch, which this run skips.
            if metrics is not None and not metrics.built:
                keras_private.build_metrics(phase.model, feed.drawn)
            with as_input_error(found.position):
                drawn = self._drawn(phase, found)
                self._manager.restore(phase, found, without=drawn.generators, more=metric_roots(phase))
                confirm_step(self._manager.ledger, found, phase)
                self._manager.libraries.advance(drawn.streams)
                self._order.open_missing(feed, found.state.get("openings"))

    def _drawn(self, phase: FitPhase, found: Checkpoint) -> DrawnByData:
        """What the data drew from while steps were skipped. Raises UncapturableError."""
        if not stateful_data(phase):
            return DrawnByData(streams={})
        states = (found.state["begun"]["objects"], self._manager.capture({}).encoded, found.state["objects"])
        drawn = drawn_by_data(*(dict(state["roots"]) for state in states))
        if self._manager.proof.is_skipped:
            drawn.check()
        return drawn

    def _built(self, phase: FitPhase) -> None:
        """After the first step has built a model: complete what was captured before it."""
        built, phase.builds = phase.builds, False
        if built and self._manager.writes:
            with self._manager.work():
                self._manager.attempt(lambda: self._traces.built(phase))
                self._manager.complete_initial(phase)

    def _batch_done(self, phase: FitPhase, batch: int, *_: Any) -> None:
        self._built(phase)
        steps, every = batch + 1, self._manager.every
        # With several steps per execution, a multiple of `every` may lie between two calls.
        due = every is not None and steps // every > (steps - phase.model.steps_per_execution) // every
        # After the last step of an epoch, the checkpoint at the end of the epoch follows anyway.
        if steps >= data_iterator.epoch_length(phase.feed):
            return
        position = Position(phase=phase.number, epoch=phase.epoch, step=steps)
        # Asked once: a signal that comes later waits for the next step, as it has no checkpoint here.
        preempted = self._signals.waits()
        if due or preempted or self._manager.proof.awaits(position):
            # Callbacks that Keras runs asynchronously may not have seen this step yet.
            keras_private.finish_callbacks(phase.callbacks)
            self._save_within_epoch(phase, position)
        if preempted:
            self._manager.wait()
            self._signals.reraise()

    def _can_save_within_epoch(self, phase: FitPhase) -> bool:
        """Whether it is known which random generators the data draws from; reported where it is not."""
        data = stateful_data(phase)
        if not data or not self._manager.writes:
            return True
        others = {name: value for name, value in phase.roots.items() if name not in data}
        drawing = self._manager.attempt(lambda: self._manager.capture_only(data))
        other = self._manager.attempt(lambda: self._manager.capture_only(others))
        if drawing is None or other is None or not drawing.shares_generators(other):
            return True
        if not self._warned:
            self._warned = True
            log(
                "no checkpoint is written within an epoch: the data, and the model or a callback, draw from the same"
                " random generator; give the data one of its own"
            )
        return False

    def _save_within_epoch(self, phase: FitPhase, position: Position) -> None:
        def part() -> StatePart:
            self._traces.check(phase)
            if phase.begun is None:
                raise UncapturableError("the data of this epoch cannot be restored to its beginning")
            values = {"begun": phase.begun.values, "openings": self._order.capture(), **validation_state(phase)}
            return StatePart(values=values | self._functions.checked(phase.roots), contents=phase.begun.contents)

        with self._manager.work():
            if not self._can_save_within_epoch(phase):
                return
            # The data's objects are restored to the beginning of the epoch, and advance as steps are drawn again.
            without = frozenset(stateful_data(phase))
            self._manager.save(phase, position, part, without=without, more=metric_roots(phase))

    def _epoch_done(self, phase: FitPhase, epoch: int, logs: Any = None) -> None:
        phase.drawn = True
        over = phase.is_over(after=epoch)
        values = {"over": over, "logs": exact_logs(logs)}

        def part() -> StatePart:
            self._traces.check(phase)
            saved = {**values, "feed": data_iterator.capture_feed(phase.feed), "openings": self._order.capture()}
            return StatePart(values=saved | validation_state(phase) | self._functions.checked(phase.roots))

        position = Position(phase=phase.number, epoch=epoch + 1)
        with self._manager.work():
            needed = over or "epochs" not in phase.callbacks.params  # as of a list of callbacks that the script made
            saved = needed or not self._manager.can_leave_out(position) or self._signals.waits()
            if saved:
                more = metric_roots(phase) if over and self._manager.workers == 1 else {}
                self._manager.save(phase, position, part, more=more, settled=True)
        # A signal that came since then waits for the next step's checkpoint, where this epoch has none.
        self._signals.reraise(waiting=saved)
