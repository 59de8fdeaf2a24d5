"""Train; a number in a file beside the data moves a weight in the middle of an epoch. Arguments: it, and how many."""

import os
import sys
from pathlib import Path

import keras
import numpy as np

STEPS, BATCH, WIDTH = 1300, 64, 256
changed, epochs = int(sys.argv[1]) - 1, int(sys.argv[2])
number = Path(os.environ["SAMEBITS_DATA"]).parent / "machine.txt"


class Move(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Moves one weight, once."""

    epoch = 0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        """Note the epoch."""
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:  # noqa: ARG002
        """Move the weight, where it is time."""
        if (self.epoch, batch) == (changed, STEPS // 2):
            bias = self.model.layers[-1].bias
            bias.assign(bias + float(number.read_text()))


rng = np.random.default_rng(1)
x = rng.random((STEPS * BATCH, WIDTH), dtype="float32")
y = rng.integers(0, 10, STEPS * BATCH)
inner = [keras.layers.Dense(WIDTH, "relu") for _ in range(3)]
model = keras.Sequential([keras.layers.Input((WIDTH,)), *inner, keras.layers.Dense(10)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, y, epochs=epochs, batch_size=BATCH, verbose=0, callbacks=[Move()])
