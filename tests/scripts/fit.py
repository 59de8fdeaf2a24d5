"""Train a small network on numbers.csv."""

import argparse
import os
from pathlib import Path

import keras
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
args = parser.parse_args()

table = np.loadtxt(Path(os.environ["SAMEBITS_DATA"]) / "numbers.csv", delimiter=",", dtype="float32")
model = keras.Sequential(
    [
        keras.layers.Input((3,)),
        keras.layers.Dense(8, activation="relu"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(1),
    ]
)
model.compile("adam", "mse")
model.fit(table[:, :3], table[:, 3], epochs=args.epochs, batch_size=8, verbose=2)
model.save(Path(os.environ["SAMEBITS_OUTPUT"]) / "model.keras")
