"""Several workers: variables and data that they share, and Keras 3's `fit`, which fails in two functions.

See keras-team/keras issue 20585.

The first reduces the metrics of a step along an axis that scalars do not have. The second reduces the first batch over
the workers to find its shapes, and a batch may hold what has no mean.

Pipelines are not tuned while they run. The thread that tunes an iterator sleeps for 10 ms, 20 ms, 40 ms and so on up to
60 s. Its end wakes it before it can see that it ended (`Model::OptimizeLoop` and `StartCancel` of TensorFlow 2.21): on
busy cores it then sleeps on, and the iterator of the next epoch waits, and with it all workers.
"""

import functools
from collections.abc import Callable
from typing import Any

from samebits.runner.compat.keras_private import inner_variable
from samebits.runner.compat.patches import Patches, PatchTarget


def make_fit_work(patches: Patches) -> None:
    """Replace the two functions where a strategy has several workers; everything else is as Keras does it."""
    import keras.src.backend.tensorflow.trainer as keras_trainer

    patches.wrap((keras_trainer, "reduce_per_replica"), _reducing_scalars)
    patches.wrap((keras_trainer.TensorFlowTrainer, "_maybe_symbolic_build"), _building_from_own_batch)


def leave_pipelines_untuned(patches: Patches) -> None:
    """Have every iterator made from now on keep the parallelism it starts with; elements and their order stay."""
    import tensorflow as tf

    # Each iterator passes here, the ones in which TensorFlow hands batches to devices, too.
    patches.wrap((tf.data.Dataset, "_apply_debug_options"), _untuned)


def own_part(variable: Any) -> Any:
    """The part of this worker of a variable that several workers share, and any other variable itself."""
    import tensorflow as tf

    inner = inner_variable(variable)
    if not isinstance(inner, tf.distribute.DistributedValues):
        return variable
    parts = inner.values
    return parts[0] if len(parts) == 1 else variable


def source_of(dataset: Any) -> Any:
    """The pipeline that a strategy distributes; None where it is unknown, as for one that a function makes."""
    import tensorflow as tf

    if not isinstance(dataset, tf.distribute.DistributedDataset):
        return None
    return getattr(dataset, "_original_dataset", None)


def opening_locations() -> list[PatchTarget]:
    """The methods that open a distributed pipeline."""
    from tensorflow.python.distribute import input_lib

    return [(input_lib.DistributedDataset, "__iter__"), (input_lib.DistributedDatasetsFromFunction, "__iter__")]


def _untuned(original: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False

    @functools.wraps(original)
    def apply(dataset: Any) -> Any:
        return original(dataset).with_options(options)

    return apply


def _reducing_scalars(original: Callable[..., Any]) -> Callable[..., Any]:
    """Metrics are the mean over the workers."""
    import keras

    @functools.wraps(original)
    def reduce_per_replica(values: Any, strategy: Any, reduction: str) -> Any:
        if not _has_workers(strategy) or reduction not in {"auto", "mean"}:
            return original(values, strategy, reduction)
        return keras.tree.map_structure(lambda value: strategy.reduce("MEAN", value, axis=None), values)

    return reduce_per_replica


def _building_from_own_batch(original: Callable[..., Any]) -> Callable[..., Any]:
    """Every worker finds the shapes in its own part of the first batch."""
    import keras

    @functools.wraps(original)
    def build(model: Any, iterator: Any = None, data_batch: Any = None) -> Any:
        strategy = model._distribute_strategy
        if iterator is None or strategy is None or not _has_workers(strategy):
            return original(model, iterator=iterator, data_batch=data_batch)
        for _, _, batches in iterator:
            own = keras.tree.map_structure(lambda value: strategy.experimental_local_results(value)[0], next(batches))
            return original(model, data_batch=own)
        return None

    return build


def _has_workers(strategy: Any) -> bool:
    from keras.src.backend.tensorflow.trainer import _collective_all_reduce_multi_worker

    return bool(_collective_all_reduce_multi_worker(strategy))
