"""Keras's `fit` by several workers, as TensorFlow's tutorial has it. Arguments make one worker misbehave."""

import json
import os
import signal
import sys
import time

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


class Trouble(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch != 1:
            return
        if "perturb" in told and index == 1:
            bias = model.layers[-1].bias
            bias.value.values[0].assign_add([0.0, 1e-7, 0.0])
        if "kill" in told and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if "kill-chief" in told and index == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if "raise" in told and index == 1:
            raise ValueError("worker 1 cannot")
        if "raise-all" in told:
            raise ValueError("nobody can")
        if "leave" in told and index == 1:
            sys.exit()
        if "announce" in told and index == 0:
            print("TRAINING", flush=True)


epochs = 1000 if "long" in told else 3
model.fit(data, epochs=epochs, steps_per_epoch=4, verbose=0, validation_data=held, callbacks=[Trouble()])
model.save(os.path.join(os.environ["SAMEBITS_OUTPUT"], "model.keras"))
print(f"done {index}")
