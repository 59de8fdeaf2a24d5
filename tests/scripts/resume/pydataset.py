"""A PyDataset with an epoch counter and generators of its own, shuffled by Keras; a callback that draws, too."""

import json
import os
import random
from pathlib import Path

import keras
import numpy as np

L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(128, 12)).astype("float32"), rng.integers(0, 3, 128)


class Samples(keras.utils.PyDataset):
    def __init__(self):
        super().__init__(workers=1)
        self.epoch = 0
        self.order = np.arange(128)
        self.rng = np.random.default_rng(5)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        chosen = self.order[index * 16 : index * 16 + 16]
        return x[chosen] + np.random.default_rng([self.epoch, index]).normal(size=(16, 12)) * 0.1, y[chosen]

    def on_epoch_end(self):
        self.epoch += 1
        self.rng.shuffle(self.order)


class Drawing(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.drawn = []
        self.best = None

    def on_epoch_end(self, _, logs=None):
        self.drawn.append([random.random(), float(np.random.normal()), logs["loss"]])
        if self.best is None or logs["loss"] < self.best[0]:
            self.best = (logs["loss"], [weight.copy() for weight in self.model.get_weights()])


model = keras.Sequential([L.Input((12,)), L.Dense(24, activation="relu"), L.Dropout(0.3), L.Dense(3)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
drawing = Drawing()
history = model.fit(Samples(), epochs=7, verbose=0, callbacks=[drawing])
model.set_weights(drawing.best[1])
out = Path(os.environ["SAMEBITS_OUTPUT"])
(out / "drawn.json").write_text(json.dumps([drawing.drawn, history.history, history.epoch, random.random()]))
