"""All of it made in one function: a callback and a PyDataset whose methods draw from, and write to, what that holds."""

import json
import os
from pathlib import Path

import keras
import numpy as np

L = keras.layers


def main():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(96, 5)).astype("float32"), rng.integers(0, 3, 96)
    drawn, held = [], {"scale": 1.0}

    class Samples(keras.utils.PyDataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return x[index * 16 : index * 16 + 16] * held["scale"], y[index * 16 : index * 16 + 16]

        def on_epoch_end(self, rounds=[0]):  # noqa: B006  kept on purpose
            rounds[0] += 1
            held["scale"] = 1 + 0.01 * rounds[0] * rng.normal()

    class Drawing(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            drawn.append([epoch, rng.normal(), logs["loss"]])

    model = keras.Sequential([L.Input((5,)), L.Dense(8, activation="relu"), L.Dropout(0.2), L.Dense(3)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(Samples(), epochs=6, verbose=0, shuffle=False, callbacks=[Drawing()])
    (Path(os.environ["SAMEBITS_OUTPUT"]) / "drawn.json").write_text(json.dumps([drawn, held, rng.normal()]))


main()
