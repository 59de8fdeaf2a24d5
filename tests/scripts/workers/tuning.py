"""Lists the iterators of a training whose pipelines TensorFlow tunes while they run."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.data.ops import iterator_ops

strategy = tf.distribute.MultiWorkerMirroredStrategy()
tuned: list[str] = []
original = iterator_ops.OwnedIterator._create_iterator


def create(iterator: Any, dataset: Any) -> None:
    original(iterator, dataset)
    if iterator._dataset.options().autotune.enabled is not False:
        tuned.append(type(dataset).__name__)


iterator_ops.OwnedIterator._create_iterator = create
x = np.arange(24, dtype="float32")[:, None]
data = tf.data.Dataset.from_tensor_slices((x, x)).map(lambda a, b: (a, b), num_parallel_calls=tf.data.AUTOTUNE)
with strategy.scope():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(data.batch(12), epochs=2, verbose=0)
print("tuned:", tuned)
