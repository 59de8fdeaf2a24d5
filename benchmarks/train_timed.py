"""Train the digits example's network on random images, or a small dense one (`--dense`), with 45 steps in an epoch."""

import argparse

import keras
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, required=True)
parser.add_argument("--dense", action="store_true")
given = parser.parse_args()

rng = np.random.default_rng(1)
x = rng.random((1437, 8, 8, 1), dtype="float32")
y = rng.integers(0, 10, 1437)
layers = keras.layers
if given.dense:
    inner = [layers.Flatten(), layers.Dense(256, activation="relu"), layers.Dense(256, activation="relu")]
else:
    inner = [
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(64, activation="relu"),
    ]
model = keras.Sequential([layers.Input((8, 8, 1)), *inner, layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(x, y, epochs=given.epochs, verbose=0)
