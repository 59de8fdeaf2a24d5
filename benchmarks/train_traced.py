"""Train the digits' model and ResNet50, on images of its usual size and on small ones, and print seconds per step.

Then what a line of the ledger is made of, measured alone on ResNet50: reading all its variables, and digesting them.
"""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from samebits.runner.digests.tensors import describe_tensor

layers = keras.layers
rng = np.random.default_rng(1)


def digits() -> tuple[keras.Model, tuple[int, ...], int]:
    """The network of `examples/digits`: about 0.1 million parameters."""
    inner = [layer for filters in (32, 32) for layer in [layers.Conv2D(filters, 3, padding="same", activation="relu")]]
    inner += [layers.MaxPooling2D(), layers.Conv2D(64, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
    head = [layers.Flatten(), layers.Dropout(0.3), layers.Dense(64, "relu"), layers.Dropout(0.3), layers.Dense(10)]
    return keras.Sequential([layers.Input((8, 8, 1)), layers.Rescaling(1 / 16), *inner, *head]), (8, 8, 1), 45


def resnet50(size: int, steps: int) -> tuple[keras.Model, tuple[int, ...], int]:
    """25.6 million parameters, and with Adam's 77 million floats, over square images of `size` pixels."""
    shape = (size, size, 3)
    return keras.applications.ResNet50(weights=None, input_shape=shape, classifier_activation=None), shape, steps


def seconds(function: object) -> float:
    """The least of five calls."""
    found = []
    for _ in range(5):
        started = time.perf_counter()
        function()  # type: ignore[operator]
        found.append(time.perf_counter() - started)
    return min(found)


Built = tuple[keras.Model, tuple[int, ...], int]
MODELS: dict[str, Callable[[], Built]] = {
    "digits": digits,
    "resnet50-224": lambda: resnet50(224, 3),
    "resnet50-64": lambda: resnet50(64, 8),
}

for name, build in MODELS.items():
    model, shape, steps = build()
    classes = model.output_shape[-1]
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = rng.random((32 * steps, *shape), dtype="float32"), rng.integers(0, classes, 32 * steps)
    model.fit(x[:64], y[:64], batch_size=32, verbose=0, shuffle=False)  # builds the graphs
    started = time.perf_counter()
    model.fit(x, y, batch_size=32, verbose=0, shuffle=False)
    print(f"{name} {(time.perf_counter() - started) / steps:.6f}", flush=True)

if "SAMEBITS_OUTPUT" in os.environ and Path(__file__).with_name("parts").exists():
    from samebits.runner.digests.tensors import named_variables, raw_bytes

    variables = [*model.variables, *model.optimizer.variables]
    named = named_variables(variables)
    print(f"bytes {sum(len(raw_bytes(item.array)) for item in named)}")
    print(f"reading {seconds(lambda: named_variables(variables)):.6f}")
    print(f"digesting {seconds(lambda: describe_tensor(named)):.6f}")
    print(f"one-thread {seconds(lambda: [hashlib.sha256(raw_bytes(item.array)).digest() for item in named]):.6f}")
