"""Train a small network; what no recipe holds changes it from the second epoch on: a file beside the data."""

import os
from pathlib import Path

import keras
import numpy as np

data = Path(os.environ["SAMEBITS_DATA"])
table = np.loadtxt(data / "numbers.csv", delimiter=",", dtype="float32")


class Move(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Moves one weight once by the number in the file."""

    epoch = 0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:  # noqa: ARG002
        if (self.epoch, batch) == (1, 1):
            kernel = self.model.get_layer("head").kernel
            kernel.assign(kernel + float((data.parent / "machine.txt").read_text()))


model = keras.Sequential(
    [
        keras.layers.Input((3,)),
        keras.layers.Dense(8, activation="relu", name="first"),
        keras.layers.Dense(1, name="head"),
    ],
    name="small",
)
model.compile("adam", "mse")
model.fit(table[:, :3], table[:, 3], epochs=3, batch_size=8, verbose=0, callbacks=[Move()])
