"""A PyDataset of two workers, each batch augmented by a generator that is made from epoch and index."""

import keras
import numpy as np

L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(128, 12)).astype("float32"), rng.integers(0, 3, 128)


class Samples(keras.utils.PyDataset):
    def __init__(self):
        super().__init__(workers=2)
        self.epoch = 0

    def __len__(self):
        return 8

    def __getitem__(self, index):
        chosen = slice(index * 16, index * 16 + 16)
        return x[chosen] + np.random.default_rng([self.epoch, index]).normal(size=(16, 12)) * 0.1, y[chosen]

    def on_epoch_end(self):
        self.epoch += 1


model = keras.Sequential([L.Input((12,)), L.Dense(24, activation="relu"), L.Dropout(0.3), L.Dense(3)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(Samples(), epochs=7, verbose=0)
