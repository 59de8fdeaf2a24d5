"""What a checkpoint of one call of `fit` consists of: its model, callbacks, data and metrics."""

import random
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from samebits.core.checkpoint_store import Checkpoint
from samebits.core.errors import shorten
from samebits.runner.checkpoint.data import data_iterator
from samebits.runner.checkpoint.data.pipeline_openings import PipelineOpenings, are_separate
from samebits.runner.checkpoint.distributed_checks import check_distributed, check_scope, check_validation
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.phases import Phase, StatePart
from samebits.runner.checkpoint.process_state.library_state import NOT_DRAWN, STREAMS
from samebits.runner.checkpoint.state.capture import StateCapture
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.checkpoint.state.keras_state import is_built_by_keras
from samebits.runner.checkpoint.state.plain_values import float_of, float_text
from samebits.runner.compat import keras_private
from samebits.runner.compat.epoch_iterator import dataset_of

FINISHED = 1 << 30
"""The initial epoch of a `fit` with no epoch left to train."""
_METRICS = "metrics"
_DATA_ARGUMENTS = ("x", "validation_data")


@dataclass(kw_only=True, slots=True)
class FitPhase(Phase):
    """One call of `fit`, the `fit`th of the script.

    `epoch` is the current epoch, `begun` what its data began from, and `drawn` whether an earlier epoch had drawn all
    data. `trained` says whether this process trains an epoch. `resumed` is a checkpoint within an epoch, until the data
    of the finished steps has been drawn again. `fixed` is what its graph is traced with. `builds` says whether the next
    step builds the model. `peeked` is the state before the validation data was looked into.
    """

    fit: int
    model: Any
    arguments: Mapping[str, Any]
    callbacks: Any = None
    feed: Any = None
    validation: Mapping[str, Any] | None = None
    epoch: int = 0
    drawn: bool = False
    begun: StatePart | None = None
    resumed: Checkpoint | None = None
    trained: bool = False
    logs: Mapping[str, str] | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    builds: bool = False
    peeked: StateCapture | None = None

    def check(self, captured: StateCapture) -> None:
        """Raise UncapturableError unless captured state could be restored, and the validation data is as it was."""
        Phase.check(self, captured)
        if self.objects is not None:
            check_unchanged(_validation_arrays(self.arguments), self.objects.changed_arrays(captured))

    def is_over(self, *, after: int) -> bool:
        """Whether the training ends after this epoch. A callback such as EarlyStopping may end it."""
        return bool(self.model.stop_training) or after + 1 >= self.callbacks.params.get("epochs", FINISHED)

    def last_logs(self) -> dict[str, float] | None:
        """The logs of the last epoch, where another process trained it."""
        return None if self.logs is None else {name: float_of(value) for name, value in self.logs.items()}


def fit_roots(phase: FitPhase) -> dict[str, Any]:
    """The roots of the state of a `fit`. The model comes first, as optimizers refer to its variables."""
    import keras

    # Keras creates the progress bar, which only prints; samebits' own callbacks restore their state elsewhere.
    listed = [
        callback
        for callback in phase.callbacks.callbacks
        if not isinstance(callback, keras.callbacks.ProgbarLogger)
        and not type(callback).__module__.startswith("samebits.")
    ]
    named = {f"callback {index} ({type(callback).__name__})": callback for index, callback in enumerate(listed)}
    # Keras makes one dict for all callbacks of a `fit`, in which they may keep what they like.
    return {
        **traced_roots(phase.model),
        **named,
        "params of the callbacks": phase.callbacks.params,
        **stateful_data(phase),
    }


def stateful_data(phase: FitPhase) -> dict[str, Any]:
    """The data arguments that are Python objects with state of their own."""
    import keras

    found = {name: phase.arguments.get(name) for name in _DATA_ARGUMENTS}
    return {name: value for name, value in found.items() if isinstance(value, keras.utils.PyDataset)}


def metric_roots(phase: FitPhase) -> dict[str, Any]:
    """The metrics of a model; they matter within an epoch, as the next one resets them, and after the last one."""
    return {_METRICS: list(phase.model.metrics_variables)}


def final_metrics(phase: FitPhase, found: Checkpoint) -> dict[str, Any]:
    """The metrics into which the end of a `fit` is restored, built as in the original run; empty for other checkpoints.

    Raises UncapturableError.
    """
    saved = dict(found.state["objects"]["roots"]).get(_METRICS)
    if saved is None:
        return {}
    if len(saved["list"]) != len(phase.model.metrics_variables):
        try:
            keras_private.build_metrics(phase.model, dataset_of(phase.feed).element_spec)
        except Exception as error:
            raise UncapturableError(f"the metrics of {phase.model.name} cannot be built again ({error})") from error
    return metric_roots(phase)


def validation_state(phase: FitPhase) -> dict[str, Any]:
    """The state of the iterator that `fit` keeps for its validation data."""
    feed = keras_private.validation_iterator(phase.model)
    known = phase.validation if feed is None else data_iterator.capture_feed(feed)
    return {} if known is None else {"validation": known}


def traced_roots(model: Any) -> dict[str, Any]:
    """What a step of a model is traced with: the model itself, and the losses and metrics it was compiled with."""
    import keras

    held = keras.tree.flatten([getattr(model, "loss", None), keras_private.user_metrics(model)])
    named = {f"loss or metric {number}": item for number, item in enumerate(held) if item is not None}
    return {"model": model, **named}


def exact_logs(logs: Any) -> dict[str, str]:
    """The logs of an epoch, each number without any loss; other values are left out."""
    found = {}
    for name, value in (logs or {}).items():
        try:
            found[str(name)] = float_text(float(value))
        except (TypeError, ValueError):
            continue
    return found


def _validation_arrays(arguments: Mapping[str, Any]) -> list[Any]:
    """The arrays of which Keras makes its validation data at the end of the first epoch, and of a resumed one."""
    import keras
    import numpy as np

    split = bool(arguments.get("validation_split"))
    names = ("x", "y", "sample_weight") if split else ("validation_data",)
    held = keras.tree.flatten([arguments.get(name) for name in names])
    return [item for item in held if isinstance(item, np.ndarray)]


def check_unchanged(arrays: Iterable[Any], changed: Iterable[tuple[Any, str]]) -> None:
    """Raise UncapturableError if one of these arrays shares memory with one that changed during training."""
    import numpy as np

    held = list(arrays)
    for value, where in changed:
        if any(np.may_share_memory(value, array) for array in held):
            raise UncapturableError(
                f"{where} changed during training, and Keras makes its validation data of it when it first validates;"
                " pass a copy to fit"
            )


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise UncapturableError if an argument of `fit` has a position or an order that cannot be captured."""
    for name in _DATA_ARGUMENTS:
        data_iterator.check_data(arguments.get(name), name)


def check_separate(arguments: Mapping[str, Any], openings: PipelineOpenings | None = None) -> None:
    """Raise UncapturableError if training and validation open one reshuffling pipeline: they share its counter.

    That can be restored where the `openings` of both are counted, and both begin anew in each epoch.
    """
    data = [arguments.get(name) for name in _DATA_ARGUMENTS]
    if are_separate(*data):
        return
    persistent = any(arguments.get(name) for name in ("steps_per_epoch", "validation_steps"))
    if openings is None or persistent or not all(map(openings.is_counted, data)):
        raise UncapturableError(
            "x and validation_data share a tf.data pipeline that reshuffles; shuffle with"
            " reshuffle_each_iteration=False, or after they are split"
        )


def check_fit_data(phase: FitPhase, manager: CheckpointManager, openings: PipelineOpenings) -> None:
    """Raise UncapturableError if a `fit` uses data, or a model, whose state cannot be captured."""
    check_arguments(phase.arguments)
    check_separate(phase.arguments, openings if manager.workers == 1 else None)
    _check_strategy(phase, manager.workers)
    _check_built(phase.model)
    kind = keras_private.data_adapter_kind(phase.feed)
    for data in stateful_data(phase).values():
        _check_workers(data, manager)
    if kind not in keras_private.DATA_ADAPTERS:
        raise UncapturableError(
            f"the data comes from a Python generator ({kind}), whose position cannot be saved; use a"
            " keras.utils.PyDataset, or a tf.data.Dataset"
        )


def _check_strategy(phase: FitPhase, workers: int) -> None:
    """Raise UncapturableError if the training is distributed, and its data is in an order that is not saved."""
    import tensorflow as tf

    # A model that no strategy's scope was given trains in each worker as in one.
    if not data_iterator.is_distributed(phase.feed) and not tf.distribute.has_strategy():
        return
    strategy = phase.model.distribute_strategy
    cure = "make it there" if workers > 1 else "train without a strategy"
    check_scope(phase.model, strategy, cure)
    if workers > 1:
        check_distributed(phase.feed, strategy)
        check_validation(phase.arguments.get("validation_data"))
        if unbuilt_layers(phase.model):
            raise UncapturableError(f"{phase.model.name} is not built before fit; give it a keras.Input")
    else:
        raise UncapturableError(
            f"the training is distributed by {type(strategy).__name__}, whose order of data cannot be saved; {cure}"
        )


def _check_built(model: Any) -> None:
    # A graph can be traced before a checkpoint is restored, and builds the model; an eager step can only be made.
    unbuilt = unbuilt_layers(model)
    if unbuilt and keras_private.runs_eagerly(model):
        raise UncapturableError(
            f"{model.name} runs eagerly, and is not built before fit ({shorten(unbuilt, 3)}); give it a keras.Input, or"
            " call it once on a batch"
        )


def unbuilt_layers(model: Any) -> list[str]:
    """The layers that the first step will build, of a model that Keras cannot build from a shape alone."""
    if is_built_by_keras(model):
        return []
    return [layer.name for layer in keras_private.inner_layers(model) if not layer.built]


def build(phase: FitPhase, manager: CheckpointManager, found: Checkpoint) -> None:
    """Build a model as its first step did in the original run: by tracing that step. Raises UncapturableError."""
    streams = [item for item in found.state["objects"]["roots"] if item[0] == STREAMS]
    # They name the seeds of the first trace.
    manager.restore_objects({"roots": streams, "globals": []}, {}, without=NOT_DRAWN)
    try:
        keras_private.trace_step(phase.model, dataset_of(phase.feed).element_spec)
    except Exception as error:
        raise UncapturableError(f"{phase.model.name} cannot be built as in its first step ({error})") from error


def _check_workers(data: Any, manager: CheckpointManager) -> None:
    # The order in which workers draw from a shared generator depends on their timing. At the ends of epochs they rest.
    methods = [vars(kind).get(name) for kind in type(data).__mro__ for name in ("__init__", "on_epoch_end")]
    alone = frozenset(method for method in methods if isinstance(method, types.FunctionType))
    if data.workers > 1 and manager.capture_only({"x": data}).draws_beside(alone, _own_generators(data, manager)):
        raise UncapturableError(
            f"the {data.workers} workers of the PyDataset share a random generator; create one from the index in"
            " __getitem__, draw in on_epoch_end only, or use one worker"
        )


def _own_generators(data: Any, manager: CheckpointManager) -> dict[str, Any]:
    """The generators that a PyDataset holds in attributes, where it reaches none in another way."""
    import numpy as np

    kinds = (np.random.Generator, np.random.RandomState, random.Random)
    held = {name: value for name, value in vars(data).items() if isinstance(value, kinds)}
    others = {name: value for name, value in vars(data).items() if name not in held}
    return {} if manager.capture_only({"x": others, "class": type(data)}).drawn_from()[0] else held


def without_number(encoded: Any) -> Any:
    """Encoded state without the numbers of its objects, which differ between walks."""
    if isinstance(encoded, Mapping):
        return {name: without_number(value) for name, value in encoded.items() if name != "#"}
    return [without_number(item) for item in encoded] if isinstance(encoded, list) else encoded
