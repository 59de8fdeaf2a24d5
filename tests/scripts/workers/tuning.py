"""Lists how many iterators a training makes, and those whose pipelines TensorFlow tunes while they run."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import dataset_options_pb2
from tensorflow.python.ops import gen_dataset_ops

strategy = tf.distribute.MultiWorkerMirroredStrategy()
made: list[str] = []
tuned: list[str] = []


def noting(name: str) -> Callable[..., Any]:
    original = getattr(gen_dataset_ops, name)

    def make(dataset: Any, *arguments: Any, **named: Any) -> Any:
        options = dataset_options_pb2.Options.FromString(gen_dataset_ops.get_options(dataset).numpy())
        made.append(name)
        if options.autotune_options.WhichOneof("optional_enabled") is None or options.autotune_options.enabled:
            tuned.append(name)
        return original(dataset, *arguments, **named)

    return make


for name in ("make_iterator", "multi_device_iterator_init"):
    setattr(gen_dataset_ops, name, noting(name))
x = np.arange(24, dtype="float32")[:, None]
data = tf.data.Dataset.from_tensor_slices((x, x)).map(lambda a, b: (a, b), num_parallel_calls=tf.data.AUTOTUNE)
with strategy.scope():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(data.batch(12), epochs=2, verbose=0)
print("made:", sorted(set(made)))
print("tuned:", tuned)
