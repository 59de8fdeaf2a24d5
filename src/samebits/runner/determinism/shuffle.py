"""The order in which `fit(shuffle=True)` shows arrays: Keras's own, or one for each epoch.

Keras draws it by `tf.random.shuffle` inside a dataset that it opens anew in every epoch
(`keras/src/trainers/data_adapters/array_data_adapter.py`). Under a global seed such an operation starts over with its
dataset, so that every epoch, and every further `fit`, has one and the same order.
"""

import functools
from collections.abc import Callable
from typing import Any

from samebits.core.recipe import PER_EPOCH
from samebits.runner.compat import keras_private
from samebits.runner.compat.patches import Patches
from samebits.runner.process.console import log


class FitShuffle:
    """Says that the order repeats, or derives it from seed, number of the `fit`, and epoch."""

    def __init__(self, seed: int, how: str) -> None:
        self._seed = seed
        self._per_epoch = how == PER_EPOCH
        self._said = False
        self._position: Any = None

    def install(self, patches: Patches) -> None:
        """Wrap the adapter's method that makes the dataset."""
        patches.wrap(keras_private.array_dataset_location(), self._wrap)

    def start_epoch(self, fit: int, epoch: int) -> None:
        """From here on datasets are opened for this epoch."""
        if self._position is not None:
            self._position.assign((fit << 32) + epoch)

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def get_tf_dataset(adapter: Any) -> Any:
            asked = keras_private.adapter_shuffle(adapter)
            if not asked or asked == "batch":
                return original(adapter)
            if self._per_epoch:
                return self._by_epoch(original, adapter)
            if not self._said:
                self._said = True
                log(
                    "fit(shuffle=True) shows the samples in one order in every epoch, as the seed fixes it;"
                    " --shuffle per-epoch gives each epoch its own"
                )
            return original(adapter)

        return get_tf_dataset

    def _by_epoch(self, original: Callable[..., Any], adapter: Any) -> Any:
        """The dataset with an order that is a function of seed, fit and epoch."""
        import tensorflow as tf

        if self._position is None:
            with tf.init_scope(), tf.device("CPU:0"):  # where datasets run
                self._position = tf.Variable(0, dtype=tf.int64, trainable=False)

        def shuffle(values: Any) -> Any:
            return tf.random.experimental.stateless_shuffle(values, tf.stack([self._seed, self._position]))

        with Patches() as patches:
            patches.replace(tf.random, "shuffle", shuffle)
            return original(adapter)
