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

_STEPS, _FILES, _ROUNDS, _PAIRS = 200, 1000, 15, 3
_STEP = "`train_on_batch` of a model with two layers"


def main() -> None:
    """Start this file again in the locked virtual environment, where the monitor runs."""
    from samebits.host.launch.venv import locked_python

    source = str(Path(__file__).parents[1] / "src")
    environment = os.environ | {"PYTHONPATH": source, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [str(locked_python()), "-P", __file__]
    subprocess.run([*command, "measure"], env=environment, check=True)
    print(f"\n{_STEP}, in {_PAIRS} pairs of processes in turns, each the least of {_ROUNDS} rounds:")
    for _ in range(_PAIRS):
        # A hook cannot be removed, so each has a process of its own.
        found = [
            float(subprocess.run([*command, word], env=environment, check=True, stdout=subprocess.PIPE).stdout)
            for word in ("without", "with")
        ]
        print("without {:.1f} µs, with {:.1f} µs, {:+.1f} %".format(*found, (found[1] / found[0] - 1) * 100))


def step(*, watched: bool) -> None:
    """Print the microseconds of one training step in this process."""
    from samebits.runner.compat.patches import Patches
    from samebits.runner.determinism.unpinned import UnpinnedMonitor

    train = _model()
    with Patches() as patches:
        if watched:
            UnpinnedMonitor(Path.cwd(), (), files=True).install(patches)
        print(min(_timed(train) for _ in range(_ROUNDS)) / _STEPS * 1e6)


def _model() -> Callable[[], None]:
    """A function that trains for some steps."""
    import keras
    import numpy as np

    x, y = np.ones((64, 20), "f4"), np.ones((64, 1), "f4")
    model = keras.Sequential([keras.layers.Dense(64), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.train_on_batch(x, y)

    def train() -> None:
        for _ in range(_STEPS):
            model.train_on_batch(x, y)

    return train


def measure() -> None:
    """Print a table in Markdown: without the monitor, with it, and the difference."""
    from samebits.runner.compat.patches import Patches
    from samebits.runner.determinism.unpinned import UnpinnedMonitor

    train = _model()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        names = [f"file-{number}" for number in range(_FILES)]
        for name in names:
            Path(name).write_text("x")

        cases: dict[str, Callable[[], float]] = {
            "a file of the script's folder, the first time": lambda: _once(names, 1),
            "the same file again": lambda: _once(names, _ROUNDS),
            "a file of the system": lambda: _once(["/etc/hosts"] * _FILES, _ROUNDS),
            _STEP: lambda: min(_timed(train) for _ in range(_ROUNDS)) / _STEPS,
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
    match sys.argv[1:]:
        case ["measure"]:
            measure()
        case ["with" | "without" as word]:
            step(watched=word == "with")
        case _:
            main()
