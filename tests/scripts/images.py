"""Train a small network on images, in ways that the rows of the matrix change."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float, default=0.01)
parser.add_argument("--perturb", type=int, help="the step after which one weight is moved by one ULP")
parser.add_argument("--unseeded", action="store_true", help="draw noise from a generator without a seed")
parser.add_argument("--set", action="store_true", help="take the samples in the order of a set, without a hash seed")
args = parser.parse_args()

data = Path(os.environ["SAMEBITS_DATA"])
images, labels = np.load(data / "images.npy"), np.load(data / "labels.npy")
if args.unseeded:
    images[0] += np.random.default_rng().normal(size=images[0].shape).astype("float32")
if args.set:
    program = f"print(*{{str(number) for number in range({len(images)})}})"
    printed = subprocess.run([sys.executable, "-c", program], env={}, capture_output=True, text=True, check=True)
    order = [int(word) for word in printed.stdout.split()]
    images, labels = images[order], labels[order]


class Perturb(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Moves one weight, once."""

    steps = 0

    def on_train_batch_end(self, *_: object, **__: object) -> None:
        if self.steps == args.perturb:
            weights = self.model.get_layer("head").get_weights()
            weights[0][0, 0] = np.nextafter(weights[0][0, 0], np.float32(9))
            self.model.get_layer("head").set_weights(weights)
        self.steps += 1


model = keras.Sequential(
    [
        keras.layers.Input((16, 16, 3)),
        keras.layers.Conv2D(16, 3, activation="relu", name="first"),
        keras.layers.Conv2D(16, 3, activation="relu", name="second"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(4, name="head"),
    ],
    name="small",
)
model.compile(keras.optimizers.Adam(args.rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(images, labels, epochs=2, batch_size=16, shuffle=False, verbose=0, callbacks=[Perturb()])
