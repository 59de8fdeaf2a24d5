"""Measure what watching for unpinned files costs, in a virtual environment: `python benchmarks/watching.py`.

CPU time of one thread, as other work on the machine would hide microseconds.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_STEPS, _FILES, _ROUNDS = 200, 1000, 15


def main() -> None:
    """Start this file again in the locked virtual environment, where the monitor runs."""
    from samebits.host.launch.venv import locked_python

    source = str(Path(__file__).parents[1] / "src")
    environment = os.environ | {"PYTHONPATH": source, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([locked_python(), "-P", __file__, "measure"], env=environment, check=True)


def measure() -> None:
    """Print a table in Markdown: without the monitor, with it, and the difference."""
    import keras
    import numpy as np

    from samebits.runner.compat.patches import Patches
    from samebits.runner.determinism.unpinned import UnpinnedMonitor

    x, y = np.ones((64, 20), "f4"), np.ones((64, 1), "f4")
    model = keras.Sequential([keras.layers.Dense(64), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.train_on_batch(x, y)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        names = [f"file-{number}" for number in range(_FILES)]
        for name in names:
            Path(name).write_text("x")

        def train() -> None:
            for _ in range(_STEPS):
                model.train_on_batch(x, y)

        cases: dict[str, Callable[[], float]] = {
            "a file of the script's folder, the first time": lambda: _once(names, 1),
            "the same file again": lambda: _once(names, _ROUNDS),
            "a file of the system": lambda: _once(["/etc/hosts"] * _FILES, _ROUNDS),
            "`train_on_batch` of a model with two layers": lambda: min(_timed(train) for _ in range(_ROUNDS)) / _STEPS,
        }
        before = {name: case() for name, case in cases.items()}
        with Patches() as patches:
            UnpinnedMonitor(Path(folder), (), files=True).install(patches)
            after = {name: case() for name, case in cases.items()}
    print("| CPU time, the least of 15 rounds | without | with | more |\n|---|---|---|---|")
    for name in cases:
        one, other = before[name] * 1e6, after[name] * 1e6
        print(f"| {name} | {one:.1f} µs | {other:.1f} µs | {other - one:+.1f} µs |")


def _once(names: Sequence[str], rounds: int) -> float:
    def opened() -> None:
        for name in names:
            open(name, encoding="utf-8").close()

    return min(_timed(opened) for _ in range(rounds)) / len(names)


def _timed(call: Callable[[], None]) -> float:
    started = time.thread_time()
    call()
    return time.thread_time() - started


if __name__ == "__main__":
    measure() if "measure" in sys.argv else main()
