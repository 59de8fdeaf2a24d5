"""Print the microseconds of opened files and of a training step, `with` the monitor of unpinned files or `without`."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.unpinned import UnpinnedMonitor

STEPS, FILES, ROUNDS = 200, 1000, 15


def train() -> None:
    """Some steps."""
    for _ in range(STEPS):
        model.train_on_batch(x, y)


def opened(names: Sequence[str]) -> Callable[[], None]:
    """A function that opens them."""

    def each() -> None:
        for name in names:
            open(name, encoding="utf-8").close()

    return each


def least(call: Callable[[], None], rounds: int) -> float:
    """Of the thread's seconds in some rounds: what else happens only adds."""
    found = []
    for _ in range(rounds):
        started = time.thread_time()
        call()
        found.append(time.thread_time() - started)
    return 1e6 * min(found)


x, y = np.ones((64, 20), "f4"), np.ones((64, 1), "f4")
model = keras.Sequential([keras.layers.Dense(64), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.train_on_batch(x, y)
with tempfile.TemporaryDirectory() as folder, Patches() as patches:
    os.chdir(folder)
    names = [f"file-{number}" for number in range(FILES)]
    for name in names:
        Path(name).write_text("x")
    if sys.argv[1] == "with":
        UnpinnedMonitor(Path(folder), (), files=True).install(patches)
    print(f"new {least(opened(names), 1) / FILES}")
    print(f"again {least(opened(names), ROUNDS) / FILES}")
    print(f"system {least(opened(['/etc/hosts'] * FILES), ROUNDS) / FILES}")
    print(f"step {least(train, ROUNDS) / STEPS}")
