"""Throughput of several workers against one, each with one thread, under the portable profile.

    .venv/bin/python benchmarks/workers.py --workers 2 --rounds 3

Trains one convolution script, which is under MultiWorkerMirroredStrategy in every run, with one worker and with N in
turns, and prints the samples per second after the first epoch. Run it on an idle machine with N cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = """
import json
import os
import time

import keras
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
BATCH, STEPS = 256, 40
rng = np.random.default_rng(0)
x = rng.normal(size=(BATCH * STEPS, 32, 32, 3)).astype("float32")
y = rng.integers(0, 10, len(x))
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH, drop_remainder=True)
with strategy.scope():
    layers = [keras.Input((32, 32, 3))]
    for filters in (32, 64, 64):
        layers += [keras.layers.Conv2D(filters, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D()]
    model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
times = []


class Clock(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        times.append(time.monotonic())


model.fit(data, epochs=4, verbose=0, callbacks=[Clock()])
print("RATE", 3 * len(x) / (times[-1] - times[0]), flush=True)
"""


def main() -> None:
    """Print the median rate for one worker and for several, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates: dict[int, list[float]] = {1: [], options.workers: []}
    with tempfile.TemporaryDirectory(prefix="samebits-workers-") as folder:
        Path(folder, "train.py").write_text(SCRIPT)
        # In turns, so that a change of the machine's load meets both.
        for _ in range(options.rounds):
            for workers, found in rates.items():
                found.append(_rate(folder, workers))
    one, several = (statistics.median(found) for found in rates.values())
    print(json.dumps({"load": os.getloadavg()[0], "rates": rates}))
    print(f"1 worker {one:.0f}/s, {options.workers} workers {several:.0f}/s: {several / one:.2f} times")


def _rate(folder: str, workers: int) -> float:
    command = [
        *(str(Path(sys.executable).with_name("samebits")), "train", "train.py", "--runtime", "venv", "--quiet"),
        *("--profile", "portable", "--workers", str(workers), "--keep", "none"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return next(float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("RATE"))


if __name__ == "__main__":
    main()
