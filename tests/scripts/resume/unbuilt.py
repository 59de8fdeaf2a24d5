"""Models that their first step builds, from what they are given: with dropout, batch normalisation and an LSTM."""

import keras
import numpy as np

L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(120, 6, 2)).astype("float32"), rng.integers(0, 3, 120)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
dense = [L.Flatten(), L.Dense(16), L.BatchNormalization(), L.LayerNormalization(), L.Dropout(0.3), L.Dense(3)]
recurrent = [L.Bidirectional(L.LSTM(5, dropout=0.2)), keras.Sequential([L.Dense(4, "relu"), L.Dense(3)])]
for layers, optimizer in ((dense, "adam"), (recurrent, "rmsprop")):
    model = keras.Sequential(layers)
    model.compile(optimizer, loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=16, epochs=4, verbose=0, validation_split=0.2)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
