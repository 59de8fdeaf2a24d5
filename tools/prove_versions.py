"""Prove the core guarantees on other versions of TensorFlow, Keras and Python: `tools/prove_versions.py [ROW …]`.

For each row of the table in docs/packages.md: lock, train twice, verify, kill and resume, trace steps, diff. Prints a
row of the table for each, and exits with 1 if one fails. A row is written `TENSORFLOW KERAS PYTHON`. It trains in a
virtual environment, and with `--image` in a container; the images stay.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "packages.md"
_ROW = re.compile(r"^\| (2\.\d+\.\d+)[^|]*\| (3\.\d+\.\d+) \| (3\.\d+)", re.MULTILINE)

SCRIPT = """
import time
import keras
import numpy as np
import tensorflow as tf

x = np.random.default_rng(0).normal(size=(256, 8, 8, 1)).astype("float32")
y = (x.mean(axis=(1, 2, 3)) > 0).astype("int32")
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(256).batch(16)
model = keras.Sequential([
    keras.Input((8, 8, 1)),
    keras.layers.RandomFlip(),
    keras.layers.Conv2D(4, 3, activation="relu"),
    keras.layers.BatchNormalization(),
    keras.layers.Flatten(),
    keras.layers.Dropout(0.3),
    keras.layers.Dense(2),
])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
rate = keras.optimizers.schedules.ExponentialDecay(0.01, 20, 0.9)
model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
wait = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: time.sleep(0.5))
model.fit(data, epochs=5, validation_data=(x[:32], y[:32]), callbacks=[wait], verbose=0)
model.fit(x, y, epochs=2, verbose=0)
"""


class FailedError(Exception):
    """A guarantee that did not hold."""


class Project:
    """A folder with the script, locked for one combination of versions."""

    def __init__(self, folder: Path, runtime: str, tensorflow: str, keras: str, python: str) -> None:
        self.folder = folder
        self.runtime = runtime
        (folder / "train.py").write_text(SCRIPT)
        (folder / "requirements.in").write_text(f"tensorflow-cpu=={tensorflow}\nkeras=={keras}\n")
        (folder / "samebits.toml").write_text(f'python = "{python}"\n')

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of samebits in the folder."""
        command = [sys.executable, "-m", "samebits", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def call(self, *words: str, status: int = 0) -> str:
        """Run a command; raises FailedError for another exit status."""
        with self.start(*words) as process:
            out, _ = process.communicate(timeout=1200)
        if process.returncode != status:
            raise FailedError(f"samebits {' '.join(words)}: status {process.returncode}, not {status}\n{out}")
        return out

    def train(self, *options: str) -> Path:
        """Train; returns the run's folder."""
        return self._run(self.call("train", "train.py", "--runtime", self.runtime, *options))

    def _run(self, out: str) -> Path:
        found: list[str] = re.findall(r"^run (\S+)$", out, re.MULTILINE)
        if not found:
            raise FailedError(f"no run in: {out}")
        return self.folder / found[-1]

    def killed(self) -> Path:
        """Train, and kill the launcher after the second epoch."""
        before = set((self.folder / "runs").iterdir())
        with self.start("train", "train.py", "--runtime", self.runtime, "--keep", "all") as process:
            run = Path(next(iter(self._wait(lambda: set((self.folder / "runs").iterdir()) - before))))
            self._wait(lambda: len(list(run.rglob("checkpoints/*.json"))) >= 2)
            process.send_signal(signal.SIGKILL)
        return run

    def _wait(self, condition: Callable[[], Any]) -> Any:
        for _ in range(3000):
            with suppress(FileNotFoundError):
                if found := condition():
                    return found
            time.sleep(0.1)
        raise FailedError("nothing happened for five minutes")

    def resumed(self) -> Path:
        """Resume a killed training."""
        run = self.killed()
        for _ in range(120):
            try:
                return self._run(self.call("resume", str(run)))
            except FailedError as error:
                # The kernel ends the training with its launcher; on a busy machine this takes a moment.
                if "still running" not in str(error):
                    raise
                time.sleep(1)
        raise FailedError("the training survived its launcher by two minutes")


def prove(project: Project) -> list[str]:
    """What is off by name; raises FailedError where a guarantee does not hold."""
    project.call("lock")
    first, second = project.train(), project.train()
    record = read(first)
    same(first, second, "two trainings")
    project.call("diff", str(first), str(second))
    project.call("diff", str(first), str(project.train("--seed", "1")), status=1)
    project.call("verify", str(first))
    traced = project.train("--trace", "step")
    same(first, traced, "a training with a trace")
    off = read(traced)["environment"].get("features_off") or {}
    if not off and '"event":"step"' not in (traced / "ledger.jsonl").read_text():
        raise FailedError("a trace without steps")
    if record["resumable"]["resumable"]:
        same(first, project.resumed(), "a killed and resumed training")
    return sorted(off)


def read(run: Path) -> dict[str, Any]:
    """The record of a run."""
    record: dict[str, Any] = json.loads((run / "record.json").read_bytes())
    return record


def same(one: Path, other: Path, what: str) -> None:
    """Raise FailedError unless two runs have the same result."""
    digests = [read(run)["result_digest"] for run in (one, other)]
    if digests[0] is None or digests[0] != digests[1]:
        raise FailedError(f"{what}: results {digests}")


def main() -> int:
    """Prove the rows that are named, or all of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--image", action="store_true", help="train in containers")
    options = parser.parse_args()
    rows = [tuple(row.split()) for row in options.rows] or _ROW.findall(PAGE.read_text())
    runtime = "docker" if options.image else "venv"
    failed = False
    for tensorflow, keras, python in rows:
        with tempfile.TemporaryDirectory(prefix="samebits-versions-") as folder:
            try:
                off = prove(Project(Path(folder), runtime, tensorflow, keras, python))
                print(f"| {tensorflow} | {keras} | {python} | {', '.join(off) or 'none'} |", flush=True)
            except FailedError as error:
                print(f"{tensorflow} {keras} {python}: {error}", flush=True)
                failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
