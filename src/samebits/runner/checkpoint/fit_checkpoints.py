"""Checkpoints of `fit`: at the ends of epochs and, where asked for, of steps.

`CallbackList` tells of training, epochs and steps, behind all callbacks; the iterator over epochs is ours (`feeding`).
A resumed `fit` begins as it did, and goes on with the next epoch; one that was over has none to go on with, and ends as
it did. Within an epoch, the epoch is begun as it was and its first steps' data drawn, before all else is put back.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.core.errors import shorten
from samebits.core.jsonio import exact_float
from samebits.runner.checkpoint import data_iterator as feeding
from samebits.runner.checkpoint.code_inspection import calling_function
from samebits.runner.checkpoint.encoding import UncapturableError
from samebits.runner.checkpoint.keras_state import is_built_by_keras
from samebits.runner.checkpoint.manager import CheckpointManager, Phase, StatePart, as_input
from samebits.runner.compat import keras_private
from samebits.runner.compat.patches import Patches

_OVER = 1 << 30
"""The first epoch of a `fit` that is over."""

_DATA = ("x", "validation_data")
_PLAIN = (bool, int, float, str)


@dataclass(kw_only=True, slots=True)
class FitPhase(Phase):
    """`epoch` is the one that goes on, and `begun` what was taken out when it began; `drawn` whether one was over then.

    `resumed` is a checkpoint within an epoch that waits for the data of its steps.
    """

    model: Any
    arguments: Mapping[str, Any]
    callbacks: Any = None
    feed: Any = None
    validation: Mapping[str, Any] | None = None
    epoch: int = 0
    drawn: bool = False
    begun: StatePart | None = None
    resumed: Checkpoint | None = None
    logs: Mapping[str, str] | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)


class FitCheckpoints:
    """Follows every `fit`. `preempted` says whether the run is to end at the next chance, `end` ends it then."""

    def __init__(self, keeper: CheckpointManager, *, preempted: Callable[[], bool], end: Callable[[], None]) -> None:
        self._keeper = keeper
        self._preempted = preempted
        self._end = end

    def install(self, patches: Patches) -> None:
        """Wrap what of Keras a `fit` is seen by."""
        import keras

        hooks = {
            "on_train_begin": self._train_begins,
            "on_epoch_begin": self._epoch_begins,
            "on_train_batch_end": self._batch_done,
            "on_epoch_end": self._epoch_done,
        }
        for name, hook in hooks.items():
            patches.wrap((keras.callbacks.CallbackList, name), functools.partial(self._behind, hook=hook))
        patches.wrap((keras.callbacks.CallbackList, "on_train_end"), self._with_logs)
        feeding.install(patches, self._made, self._data_begins, self._skipped)

    @property
    def can_wait(self) -> bool:
        """Whether a checkpoint can be written after the next step."""
        stage = self._stage
        return stage is not None and stage.callbacks is not None and stage.resumed is None and self._keeper.writes

    @property
    def ends_epochs(self) -> bool:
        """Whether the end of this epoch will be seen here, behind all callbacks."""
        return self._stage is not None and self._stage.callbacks is not None

    @property
    def _stage(self) -> FitPhase | None:
        return self._keeper.stage if isinstance(self._keeper.stage, FitPhase) else None

    @contextmanager
    def fit(self, model: Any, arguments: Mapping[str, Any]) -> Iterator[None]:
        """One call of `fit`; one within another stage is a part of that."""
        if self._keeper.stage is not None:
            if not isinstance(self._keeper.stage, FitPhase):
                self._keeper.attempt(lambda: _check_arguments(arguments))
            yield
            return
        kept_epoch = keras_private.kept_initial_epoch(model) if self._keeper.active else nullcontext()
        with self._keeper.next_stage(FitPhase(number=0, model=model, arguments=arguments)), kept_epoch:
            yield

    def _behind(self, original: Callable[..., Any], hook: Callable[..., None]) -> Callable[..., Any]:
        """Call a hook behind a method of the stage's own list of callbacks."""

        @functools.wraps(original)
        def method(callbacks: Any, *args: Any, **kwargs: Any) -> Any:
            answer = original(callbacks, *args, **kwargs)
            stage = self._stage
            if stage is not None and stage.callbacks is None and callbacks.model is stage.model:
                stage.callbacks = callbacks
            if stage is not None and stage.callbacks is callbacks:
                hook(stage, *args, **kwargs)
            return answer

        return method

    def _with_logs(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A `fit` that was over has no epoch of its own to tell of at its end, but those of the run it resumes."""

        @functools.wraps(original)
        def on_train_end(callbacks: Any, logs: Any = None) -> Any:
            stage = self._stage
            if logs is None and stage is not None and stage.callbacks is callbacks and stage.logs is not None:
                logs = {name: float.fromhex(value) for name, value in stage.logs.items()}
            return original(callbacks, logs)

        return on_train_end

    def _made(self, feed: Any) -> None:
        """Keras made an iterator over epochs; whether it is the stage's own shows in who made it."""
        stage = self._stage
        if stage is None or calling_function(2) != "fit":
            return
        feed.followed = True
        if stage.feed is None:
            stage.feed = feed
        elif stage.validation is not None:
            with self._keeper.work(), as_input(None):
                feeding.restore_feed(feed, stage.validation, drawn=True)

    def _train_begins(self, stage: FitPhase, *_: Any) -> None:
        with self._keeper.work():
            stage.roots = _roots(stage)
            found = self._keeper.begin(stage, lambda _: self._check_data(stage))
            if found is None:
                return
            place, state = found.position, found.state
            stage.validation = state.get("validation")
            if place.step is None:
                with as_input(place):
                    feeding.restore_feed(stage.feed, state["feed"], drawn=True)
                self._keeper.put_back(stage, found)
                stage.logs = state["logs"]
                stage.drawn = True
                first = _OVER if state["over"] else place.epoch
            else:
                self._keeper.resume_at(found)
                self._keeper.put_objects_back(state["objects"], stage.roots, without=frozenset({"metrics"}))
                stage.resumed = found  # once more, when the data of its steps is drawn
                stage.feed.skip = place.step
                first = place.epoch
            keras_private.set_initial_epoch(stage.model, first)

    def _epoch_begins(self, stage: FitPhase, epoch: int, *_: Any) -> None:
        stage.epoch = epoch

    def _data_begins(self, feed: Any) -> None:
        """An epoch's data is about to be opened."""
        stage = self._stage
        if stage is None or stage.callbacks is None or feed is not stage.feed:
            return
        with self._keeper.work():
            if stage.resumed is not None:
                begun = stage.resumed.state["begun"]
                with as_input(stage.resumed.position):
                    feeding.restore_feed(feed, begun["feed"], drawn=begun["drawn"])
                self._keeper.put_objects_back(begun["objects"], _data_of(stage))
                stage.drawn = begun["drawn"]
                stage.begun = StatePart(
                    values=begun, contents=dict.fromkeys(begun["named"])
                )  # the bytes are there already
            elif self._keeper.writes:
                stage.begun = self._keeper.attempt(lambda: self._data_state(stage))

    def _data_state(self, stage: FitPhase) -> StatePart:
        """What the data of an epoch begins from."""
        taking = self._keeper.take(_data_of(stage))
        values = {"feed": feeding.capture_feed(stage.feed), "objects": taking.encoded, "named": sorted(taking.contents)}
        return StatePart(values={**values, "drawn": stage.drawn}, contents=taking.contents)

    def _skipped(self, feed: Any) -> None:
        """The data of the steps that were done before is drawn: all else is put back."""
        stage = self._stage
        if stage is None or feed is not stage.feed or stage.resumed is None:
            return
        found, stage.resumed = stage.resumed, None
        with self._keeper.work():
            metrics = keras_private.compile_metrics(stage.model)
            if metrics is not None and not metrics.built:  # as they are by their first batch
                keras_private.build_metrics(stage.model, feed.drawn)
            self._keeper.put_back(stage, found, without=self._drawn(stage, found), more=_metrics(stage))

    def _drawn(self, stage: FitPhase, found: Checkpoint) -> frozenset[str]:
        """The generators that the data itself drew from just now: they are where they belong already."""
        if not _data_of(stage):
            return frozenset()
        begun = dict(found.state["begun"]["objects"]["roots"])
        now = dict(self._keeper.take({}).encoded["roots"])
        return frozenset(name for name in now if _content(now[name]) != _content(begun.get(name)))

    def _batch_done(self, stage: FitPhase, batch: int, *_: Any) -> None:
        steps, every = batch + 1, self._keeper.every
        due = every is not None and steps // every > (steps - stage.model.steps_per_execution) // every
        if (due or self._preempted()) and steps < feeding.length(stage.feed):  # a step is left, to tell of the epoch
            keras_private.finish_callbacks(stage.callbacks)  # some may still be told of this step
            place = Position(phase=stage.number, epoch=stage.epoch, step=steps)
            with self._keeper.work():
                without = frozenset(_data_of(stage))
                self._keeper.keep(stage, place, lambda: self._within(stage), without=without, more=_metrics(stage))
        if self._preempted() and steps < feeding.length(stage.feed):  # else it waits for the end of the epoch
            self._keeper.wait()
            self._end()

    def _check_fixed(self, stage: FitPhase) -> None:
        """Raise UnsavableError where what graphs are made of changed, which nobody sees afterwards."""
        if self._keeper.reach(_fixed(stage)).encoded != stage.fixed:
            raise UncapturableError(
                f"what a loss or metric of {stage.model.name} holds in Python changed during the training;"
                " use a variable"
            )

    def _within(self, stage: FitPhase) -> StatePart:
        self._check_fixed(stage)
        if stage.begun is None:
            raise UncapturableError("the data of this epoch cannot be begun again")
        return StatePart(values={"begun": stage.begun.values, **_validation(stage)}, contents=stage.begun.contents)

    def _epoch_done(self, stage: FitPhase, epoch: int, logs: Any = None) -> None:
        stage.drawn = True
        over = bool(stage.model.stop_training) or epoch + 1 >= stage.callbacks.params.get("epochs", _OVER)
        values = {"over": over, "logs": _exact(logs)}

        def part() -> StatePart:
            self._check_fixed(stage)
            return StatePart(values={**values, "feed": feeding.capture_feed(stage.feed), **_validation(stage)})

        with self._keeper.work():
            self._keeper.keep(stage, Position(phase=stage.number, epoch=epoch + 1), part, settled=True)
        self._end()

    def _check_data(self, stage: FitPhase) -> None:
        """Raise UnsavableError where the data holds a place, or an order, that nobody can take out."""
        _check_arguments(stage.arguments)
        stage.fixed = self._keeper.reach(_fixed(stage)).encoded
        unbuilt = [layer.name for layer in keras_private.inner_layers(stage.model) if not layer.built]
        if unbuilt and not is_built_by_keras(stage.model):
            raise UncapturableError(
                f"{stage.model.name} is not built before fit ({shorten(unbuilt, 3)}); give it a keras.Input, or call it"
                " once on a batch"
            )
        kind = keras_private.data_adapter_kind(stage.feed)
        for data in _data_of(stage).values():
            self._check_workers(data)
        if kind not in keras_private.DATA_ADAPTERS:
            raise UncapturableError(
                f"the data comes from a Python generator ({kind}), whose place cannot be saved; use a"
                " keras.utils.PyDataset, or a tf.data.Dataset"
            )

    def _check_workers(self, data: Any) -> None:
        """Raise UnsavableError where workers of a PyDataset may draw from one generator."""
        if data.workers > 1 and self._keeper.reach({"x": data}).draws:
            raise UncapturableError(
                f"the {data.workers} workers of the PyDataset share a random generator; draw from one that is made from"
                " the index in __getitem__, or use one worker"
            )


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    for name in _DATA:
        feeding.check_data(arguments.get(name), name)


def _roots(stage: FitPhase) -> dict[str, Any]:
    """Where the state of a `fit` is reached from: the model first, as optimizers name its variables."""
    import keras

    listed = [
        callback
        for callback in stage.callbacks.callbacks
        if not isinstance(callback, keras.callbacks.ProgbarLogger)
        and not type(callback).__module__.startswith("samebits.")
    ]
    named = {f"callback {index} ({type(callback).__name__})": callback for index, callback in enumerate(listed)}
    return {"model": stage.model, **named, **_data_of(stage)}


def _fixed(stage: FitPhase) -> dict[str, Any]:
    """What of the script's own a step in a graph is made of, beside layers: those of loss and metrics."""
    import keras

    metrics = keras_private.user_metrics(stage.model)
    held = keras.tree.flatten([getattr(stage.model, "loss", None), metrics])
    return {str(number): _without_variables(item) for number, item in enumerate(held)}


def _without_variables(item: Any) -> Any:
    """A metric by its plain attributes; Keras's own hold none that change."""
    import keras

    if not isinstance(item, keras.metrics.Metric):
        return item
    keras_own = type(item).__module__.partition(".")[0] == "keras"
    return {} if keras_own else {name: value for name, value in vars(item).items() if type(value) in _PLAIN}


def _data_of(stage: FitPhase) -> dict[str, Any]:
    """The data that is a Python object with a state of its own."""
    import keras

    found = {name: stage.arguments.get(name) for name in _DATA}
    return {name: value for name, value in found.items() if isinstance(value, keras.utils.PyDataset)}


def _metrics(stage: FitPhase) -> dict[str, Any]:
    """What only counts within an epoch, as the next one begins anew."""
    return {"metrics": list(stage.model.metrics_variables)}


def _validation(stage: FitPhase) -> dict[str, Any]:
    feed = keras_private.validation_iterator(stage.model)
    known = stage.validation if feed is None else feeding.capture_feed(feed)
    return {} if known is None else {"validation": known}


def _content(encoded: Any) -> Any:
    """Without the number that only one walk gives."""
    return {name: value for name, value in encoded.items() if name != "#"} if isinstance(encoded, Mapping) else encoded


def _exact(logs: Any) -> dict[str, str]:
    found = {}
    for name, value in (logs or {}).items():
        try:
            found[str(name)] = exact_float(float(value))
        except (TypeError, ValueError):
            continue
    return found
