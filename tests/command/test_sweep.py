"""`samebits sweep` with real trainings: two seeds differ in the order of data, and a killed sweep is continued."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from samebits.host.sweep.sweep_file import Sweep, SweepDir, read_sweep
from support.command import COMMAND, SCRIPTS, Project, call

ORDER = """
import keras, numpy as np
class Batches(keras.layers.Layer):
    def call(self, x):
        if hasattr(x, "numpy"):  # not while the model is built
            seen.append(int(x[0, 0]))
        return x
seen = []
start = keras.initializers.RandomUniform(seed=1)  # only the order may differ
model = keras.Sequential([keras.Input((1,)), Batches(), keras.layers.Dense(1, kernel_initializer=start)])
model.compile("sgd", "mse", run_eagerly=True)
x = np.arange(16, dtype="float32").reshape(16, 1) / 16
seen.clear()
model.fit(16 * x, x, batch_size=1, epochs=1, verbose=0)
print("order", seen)
"""


def only(project: Project) -> tuple[SweepDir, Sweep]:
    (path,) = project.runs.glob("sweeps/sweep-*/sweep.json")
    return SweepDir(path.parent), read_sweep(SweepDir(path.parent))


def test_two_seeds_show_the_data_in_two_orders(project: Project) -> None:
    """Keras's own order of `fit(shuffle=True)` depends on the seed of the run, if on no epoch."""
    project.write(ORDER)
    words = ("sweep", "train.py", "--seeds", "0,1", "--jobs", "2", "--runtime", "venv")
    done = call(*words, folder=project.folder)
    assert done.status == 0, done.err
    folder, found = only(project)
    assert (len(found.runs), found.alike, found.failed) == (2, (), ())
    logs = [(folder.runs / run.id / "log.txt").read_text() for run in found.runs]
    orders = [json.loads(log.partition("\norder ")[2].splitlines()[0]) for log in logs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(16))
    assert orders[0] != orders[1]
    assert list(range(16)) not in orders


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_sweep_is_continued_to_the_same_digest(project: Project, number: int) -> None:
    project.write((SCRIPTS / "fit.py").read_text())
    words = [*COMMAND, "sweep", "train.py", "--data", "data", "--runtime", "venv", "--seeds", "0-2", "--jobs", "2"]
    words += ["--", "--epochs", "20"]
    whole = subprocess.run(words, cwd=project.folder, capture_output=True, text=True, check=True).stdout
    os.rename(project.runs, project.folder / "before")
    process = subprocess.Popen(words, cwd=project.folder, stderr=subprocess.DEVNULL)
    while not any(Path(path).stat().st_size for path in project.runs.glob("2*/ledger.jsonl")):
        time.sleep(0.02)
    process.send_signal(number)
    process.wait(60)
    begun = len(list(project.runs.glob("2*")))
    assert not only(project)[1].finalized
    # The processes of a killed sweep end by themselves.
    deadline = time.monotonic() + 60
    while (done := subprocess.run(words, cwd=project.folder, capture_output=True, text=True, check=False)).returncode:
        assert "may still be running" in done.stderr, done.stderr
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.5)
    assert done.stdout.splitlines()[-1] == whole.splitlines()[-1]
    found = only(project)[1]
    assert begun <= 2
    assert sum(len(run.attempts) for run in found.runs) >= 4
