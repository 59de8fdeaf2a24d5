"""The digits example's network on random images, for long enough to be timed: prints the seconds of `fit`."""

import argparse
import time

import keras
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=60)
epochs = parser.parse_args().epochs

rng = np.random.default_rng(1)
x = rng.random((1437, 8, 8, 1), dtype="float32")
y = rng.integers(0, 10, 1437)
layers = keras.layers
model = keras.Sequential(
    [
        layers.Input((8, 8, 1)),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(64, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(x, y, epochs=1, verbose=0)  # builds the graph, outside the time
started = time.perf_counter()
model.fit(x, y, epochs=epochs, verbose=0)
print(f"fit_seconds {time.perf_counter() - started:.4f}", flush=True)
