"""Trainings that start warm end in the bits of those that start for real: what the other tests rest on."""

import json
import signal
from dataclasses import replace
from typing import Any

import pytest

from samebits.core.run_dir import RunDir
from support import outside, warm_start
from support.command import Project, newest
from support.machine import started

SCRIPT = """
import os, random, signal, sys, tempfile
import keras, numpy as np, tensorflow as tf
assert sys.argv[1:] == ["a", "b"]
inputs = np.random.default_rng(1).normal(size=(64, 5)).astype("float32")
layers = [keras.layers.Dense(7, "gelu"), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
model = keras.Sequential([keras.layers.Input((5,)), *layers])
model.compile("adam", "mse")
model.fit(inputs, inputs[:, :2], epochs=3, batch_size=16, verbose=0)
sees = {"hash": hash("x"), "set": sorted(map(hash, "abc")), "random": random.random(), "numpy": np.random.rand(),
        "handlers": [getattr(signal.getsignal(item), "__name__", item) for item in (2, 15, 17, 13)],
        "flags": str(sys.flags), "main": sorted(vars(sys.modules["__main__"])),
        "variables": sorted(os.environ), "executable": sys.executable, "directories": os.getcwd() == sys.path[0],
        "temporary": tempfile.gettempdir() == os.environ["TMPDIR"], "group": os.getpgid(0) == os.getpid(),
        "words": [word for word in sys.orig_argv if "/" not in word], "python": sys.path[2:]}
print("sees", sees)
"""


def seen(run: RunDir) -> dict[str, Any]:
    """All that must not depend on how a training was started."""
    record = run.read()
    environment = replace(record.environment, peak_memory=None)
    (line,) = [line for line in run.log.read_text().splitlines() if line.startswith("sees ")]
    return {
        "recipe": record.recipe,
        "result": record.result,
        "ledger": run.ledger.read_bytes(),
        "environment": environment,
        "script": line,
    }


@pytest.mark.parametrize("profile", ["native", "portable"])
def test_a_warm_start_is_as_a_cold_one(project: Project, profile: str) -> None:
    project.write(SCRIPT)
    words = ("--profile", profile, "--trace", "tensor", "--", "a", "b")
    found = []
    with pytest.MonkeyPatch.context() as patch:
        outside.open_cache(patch)
        assert project.train(*words).status == 0
        found.append(seen(newest(project)))
    for _ in range(3):  # the first of an environment starts cold
        done = project.train(*words)
        assert done.status == 0, done.err
        found.append(seen(newest(project)))
    assert any(line.startswith("warm --run") and done.run.name in line for line in warm_start.log())
    for other in found[1:]:
        assert other == found[0]


WAITING = "import os, time\nprint('ready', flush=True)\nwhile True: time.sleep(0.05)\n"


def test_signals_and_the_status_come_through(project: Project) -> None:
    project.write(WAITING)
    for _ in range(3):
        with started(project.command(), cwd=project.folder) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 143
        record = newest(project).read()
        assert (record.finalized, record.outcome.state) == (True, "interrupted")
    project.write("import sys\nsys.exit(7)\n")
    done = project.train()
    assert done.status == 1
    assert json.loads(newest(project).record.read_text())["outcome"]["exit_status"] == 7
