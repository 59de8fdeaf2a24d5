"""Keras's `fit` by several workers, as TensorFlow's tutorial has it. Arguments make one worker misbehave."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

index = json.loads(os.environ["TF_CONFIG"])["task"]["index"] if "TF_CONFIG" in os.environ else 0
told = sys.argv[1:]
if "late" in told:
    time.sleep(int.from_bytes(os.urandom(2)) / 32768)
strategy = tf.distribute.MultiWorkerMirroredStrategy()

BATCH = 24
rng = np.random.default_rng(1)
x = rng.normal(size=(144, 6, 6, 1)).astype("float32")
y = rng.integers(0, 3, 144)
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(144).repeat().batch(BATCH)
held = tf.data.Dataset.from_tensor_slices((x[:48], y[:48])).batch(BATCH)

with strategy.scope():
    model = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])


def trouble(epoch: int, _logs: object) -> None:
    """What the arguments ask for, as `kill-1` does: one worker, in the second epoch."""
    if epoch == 1:
        for act, whose in (word.split("-") for word in told if "-" in word):
            if int(whose) == index and act in ACTS:
                ACTS[act]()


def fail() -> None:
    raise ValueError("this worker cannot")


ACTS: dict[str, Callable[[], object]] = {
    "perturb": lambda: model.layers[-1].bias.value.values[0].assign_add([0.0, 1e-7, 0.0]),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "raise": fail,
    "leave": sys.exit,
    "announce": lambda: print("TRAINING", flush=True),
}

if f"extra-{index}" in told:
    alone = keras.Sequential([keras.layers.Dense(1)])
    alone.compile("sgd", "mse")
    alone.fit(x.reshape(144, 36), y, verbose=0)
callback = keras.callbacks.LambdaCallback(on_epoch_begin=trouble)
epochs = 1000 if "long" in told else 3
model.fit(data, epochs=epochs, steps_per_epoch=4, verbose=0, validation_data=held, callbacks=[callback])
model.save(os.path.join(os.environ["SAMEBITS_OUTPUT"], "model.keras"))
print(f"done {index}")
