"""A script that writes beside its code: a log that stays open, a file in a new folder, and one that it reads back."""

import os
from pathlib import Path

import keras
import numpy as np

L = keras.layers
os.makedirs("images", exist_ok=True)


class Counting(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        best = Path("best.npy")
        before = float(np.load(best)) if best.exists() else np.inf
        np.save(best, min(before, logs["loss"]))
        Path("images", f"{epoch}.txt").write_text(f"{logs['loss'].hex()} {before.hex()}")


rng = np.random.default_rng(1)
x, y = rng.normal(size=(96, 4)).astype("float32"), rng.integers(0, 3, 96)
model = keras.Sequential([L.Input((4,)), L.Dense(3)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, y, batch_size=8, epochs=6, verbose=0, callbacks=[keras.callbacks.CSVLogger("log.csv"), Counting()])
