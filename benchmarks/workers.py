"""Throughput of several workers against one, each with one thread, under the portable profile (about ten minutes).

Trains one convolution script, which is under MultiWorkerMirroredStrategy in every run, with one worker and with two.
The samples per second are those after the first epoch. It needs a core for each worker.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from figures import Figure
from measuring import Options, interleaved, ratios, samebits, scratch

WORKERS = (1, 2)
TIMES = 1.7
"""The least throughput of two workers, as a multiple of that of one."""

SCRIPT = """
import json
import os
import time

import keras
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
BATCH, STEPS = 256, 40
rng = np.random.default_rng(0)
x = rng.normal(size=(BATCH * STEPS, 32, 32, 3)).astype("float32")
y = rng.integers(0, 10, len(x))
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH, drop_remainder=True)
with strategy.scope():
    layers = [keras.Input((32, 32, 3))]
    for filters in (32, 64, 64):
        layers += [keras.layers.Conv2D(filters, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D()]
    model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
times = []


class Clock(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        times.append(time.monotonic())


model.fit(data, epochs=4, verbose=0, callbacks=[Clock()])
print("RATE", 3 * len(x) / (times[-1] - times[0]), flush=True)
"""


def measure(options: Options) -> Iterator[Figure]:
    """Rounds with one worker and with two."""
    with scratch() as folder:
        (folder / "train.py").write_text(SCRIPT)
        found = interleaved({str(number): partial(rate, folder, number) for number in WORKERS}, options.rounds_or(5))
    one, two = (tuple(found[str(number)]) for number in WORKERS)
    yield Figure(table="workers", row="1", column="samples per second", unit="/s", values=one)
    yield Figure(table="workers", row="2", column="samples per second", unit="/s", values=two)
    yield Figure(table="workers", row="2", column="times that of one", values=ratios(two, one), least=TIMES)


def rate(folder: Path, workers: int) -> float:
    """What one training prints."""
    words = ("train", "train.py", "--runtime", "venv", "--quiet", "--profile", "portable", "--keep", "none")
    return samebits(*words, "--workers", str(workers), folder=folder).numbers("RATE")[0]
