"""Train three models in turns with and without the lines of steps, in one process, and print seconds per step.

Run it with `--trace step`. Its argument is the number of rounds. Each trains once without the lines and once with them:
`model without seconds`, `model with seconds`. Then what a line is made of, measured alone on ResNet50: reading all its
variables, and hashing them.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import xxhash

from samebits.runner.digests import tensors
from samebits.runner.trace.step_records import StepRecordWriter

ROUNDS = int(sys.argv[1])
layers = keras.layers
rng = np.random.default_rng(1)
write = StepRecordWriter.write


def digits() -> tuple[keras.Model, tuple[int, ...], int]:
    """The network of `examples/digits`: about 0.1 million parameters."""
    inner = [layer for filters in (32, 32) for layer in [layers.Conv2D(filters, 3, padding="same", activation="relu")]]
    inner += [layers.MaxPooling2D(), layers.Conv2D(64, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
    head = [layers.Flatten(), layers.Dropout(0.3), layers.Dense(64, "relu"), layers.Dropout(0.3), layers.Dense(10)]
    return keras.Sequential([layers.Input((8, 8, 1)), layers.Rescaling(1 / 16), *inner, *head]), (8, 8, 1), 45


def million() -> tuple[keras.Model, tuple[int, ...], int]:
    """A convolutional network of 1.0 million parameters, over images of 64 pixels."""
    inner: list[Any] = [layers.Input((64, 64, 3))]
    for filters in (32, 64, 128, 256):
        inner += [layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
    inner += [layers.Conv2D(256, 3, padding="same", activation="relu"), layers.GlobalAveragePooling2D()]
    return keras.Sequential([*inner, layers.Dense(10)]), (64, 64, 3), 20


def resnet50() -> tuple[keras.Model, tuple[int, ...], int]:
    """25.6 million parameters, and with Adam's 77 million floats, over images of 64 pixels."""
    shape = (64, 64, 3)
    return keras.applications.ResNet50(weights=None, input_shape=shape, classifier_activation=None), shape, 8


def seconds(function: Callable[[], object]) -> float:
    """The median of nine calls."""
    found = []
    for _ in range(9):
        started = time.perf_counter()
        function()
        found.append(time.perf_counter() - started)
    return float(np.median(found))


def tick(*_: object) -> None:
    """Note the time at which an epoch begins or ends."""
    times.append(time.perf_counter())


times: list[float] = []
Built = tuple[keras.Model, tuple[int, ...], int]
MODELS: dict[str, Callable[[], Built]] = {"digits": digits, "million": million, "resnet50": resnet50}

for name, build in MODELS.items():
    model, shape, steps = build()
    classes = model.output_shape[-1]
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = rng.random((32 * steps, *shape), dtype="float32"), rng.integers(0, classes, 32 * steps)
    model.fit(x[:64], y[:64], batch_size=32, verbose=0, shuffle=False)  # builds the graphs
    clock = keras.callbacks.LambdaCallback(on_epoch_begin=tick, on_epoch_end=tick)
    for number in range(ROUNDS):
        # The first of a pair changes from round to round.
        for lines in (True, False) if number % 2 else (False, True):
            StepRecordWriter.write = write if lines else (lambda *_: None)  # type: ignore[method-assign]
            times.clear()
            model.fit(x, y, batch_size=32, verbose=0, shuffle=False, callbacks=[clock])
            print(f"{name} {'with' if lines else 'without'} {(times[1] - times[0]) / steps:.6f}", flush=True)
    StepRecordWriter.write = write  # type: ignore[method-assign]

variables = [*model.variables, *model.optimizer.variables]
arrays = tensors.arrays_of(variables)
state = xxhash.xxh3_128()
print(f"part bytes {sum(array.nbytes for array in arrays) / 2**20}")
print(f"part reading {seconds(lambda: tensors.arrays_of(variables)):.6f}")
print(f"part hashing {seconds(lambda: [state.update(tensors.raw_bytes(array)) for array in arrays]):.6f}")
print(f"part both {seconds(lambda: tensors.locating_digest(variables)):.6f}")
