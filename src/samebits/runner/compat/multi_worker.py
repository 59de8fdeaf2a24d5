"""Keras 3's `fit` under MultiWorkerMirroredStrategy, which fails in two functions (keras-team/keras issue 20585).

The first reduces the metrics of a step along an axis that scalars do not have. The second reduces the first batch over
the workers to find its shapes, and a batch may hold what has no mean.
"""

import functools
from collections.abc import Callable
from typing import Any

from samebits.runner.compat.patches import Patches


def make_fit_work(patches: Patches) -> None:
    """Replace the two functions where a strategy has several workers; everything else is as Keras does it."""
    import keras.src.backend.tensorflow.trainer as keras_trainer

    patches.wrap((keras_trainer, "reduce_per_replica"), _reducing_scalars)
    patches.wrap((keras_trainer.TensorFlowTrainer, "_maybe_symbolic_build"), _building_from_own_batch)


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
