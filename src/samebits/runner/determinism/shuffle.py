"""The sample order of `fit(shuffle=True)` on arrays: Keras's own, or a new one for each epoch.

Keras draws it by `tf.random.shuffle`, inside a dataset that it reopens in every epoch
(`keras/src/trainers/data_adapters/array_data_adapter.py`). Under a global seed, that operation restarts with its
dataset. So every epoch, and every further `fit`, has the same order.
"""

import functools
from collections.abc import Callable
from typing import Any

from samebits.core.recipe import PER_EPOCH
from samebits.runner.compat import keras_private
from samebits.runner.compat.patches import Patches
from samebits.runner.process.console import log


class FitShuffle:
    """Warns that the order repeats, or derives it from the seed, the index of the `fit` and the epoch."""

    def __init__(self, seed: int, how: str) -> None:
        self._seed = seed
        self._per_epoch = how == PER_EPOCH
        self._warned = False
        self._position: Any = None

    def install(self, patches: Patches) -> None:
        """Wrap the adapter's method that creates the dataset."""
        patches.wrap(keras_private.array_dataset_location(), self._wrap)

    def start_epoch(self, fit: int, epoch: int) -> None:
        """Use the order of this epoch for datasets that are opened from here on."""
        if self._position is not None:
            # One number for both, as the seed of a stateless operation has two parts.
            self._position.assign((fit << 32) + epoch)

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def get_tf_dataset(adapter: Any) -> Any:
            requested = keras_private.adapter_shuffle(adapter)
            if not requested or requested == "batch":
                return original(adapter)
            if self._per_epoch:
                return self._by_epoch(original, adapter)
            if not self._warned:
                self._warned = True
                log(
                    "fit(shuffle=True) uses the same sample order in every epoch, because the seed fixes it;"
                    " --shuffle per-epoch draws a new order for each epoch"
                )
            return original(adapter)

        return get_tf_dataset

    def _by_epoch(self, original: Callable[..., Any], adapter: Any) -> Any:
        """The dataset, in an order that is a function of seed, fit and epoch."""
        import tensorflow as tf

        # A variable, so that the traced dataset reads the current epoch each time it is opened.
        if self._position is None:
            with tf.init_scope(), tf.device("CPU:0"):  # datasets run there
                self._position = tf.Variable(0, dtype=tf.int64, trainable=False)

        def shuffle(values: Any) -> Any:
            return tf.random.experimental.stateless_shuffle(values, tf.stack([self._seed, self._position]))

        # The adapter looks `tf.random.shuffle` up while it creates the dataset, and only then.
        with Patches() as patches:
            patches.replace(tf.random, "shuffle", shuffle)
            return original(adapter)
