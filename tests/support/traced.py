"""Scripts that are trained with a finer ledger, and the lines they leave."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from samebits.core.record import read_record
from samebits.core.run_dir import RunDir
from samebits.core.trace_level import Trace
from support.command import Project

Line = dict[str, Any]

START = """
import os
import keras, numpy as np, tensorflow as tf
x = np.arange(48, dtype="float32").reshape(16, 3) / 48
y = x.sum(axis=1, keepdims=True)
def network(name, units=1):
    return keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4, name="inner_" + name),
                             keras.layers.Dense(units, name="d_" + name)], name=name)
"""

FIT = """
model = network("fitted")
model.compile("adam", "mse")
model.fit(x, y, batch_size=4, epochs=3, verbose=0, validation_data=(x, y))
"""

LOOP = """
model = network("looped")
optimizer = keras.optimizers.Adam(0.1)
{decorator}
def step(x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
    optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
for _ in range(3):
    step(x, y)
"""

EAGER, GRAPH = LOOP.format(decorator=""), LOOP.format(decorator="@tf.function")


WINDOWED = """
import json, sys
from pathlib import Path
from samebits.host.subprocesses import INHERITED
from samebits.host.launch.runtime import choose_runtime
from samebits.core.run_setup import plan_run, publish
from samebits.core.run_config import RunConfig
from samebits.core.trace_level import Trace
asked = json.loads(sys.argv[1])
spec = RunConfig(script=Path("train.py"), data=Path("data"), runtime="venv", trace=Trace(**asked["trace"]))
runtime = choose_runtime(spec)
runtime.prepare()
folder, _ = publish(plan_run(spec, runtime.setup))
if asked["spoil"]:
    folder.tensors.write_text("in the way")
sys.exit(runtime.run(folder, spec, INHERITED))
"""


def lines_of(folder: Path, *events: str) -> list[Line]:
    """A ledger's lines without what chains them."""
    found = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    kept = [line for line in found if not events or line["event"] in events]
    return [{name: value for name, value in line.items() if name not in {"previous", "line"}} for line in kept]


def run_traced(project: Project, body: str, trace: Trace, *, spoil: bool = False) -> tuple[RunDir, int, str]:
    """One training with a window, which the command line has no word for; with something in the way of `tensors`."""
    project.write(START + body)
    asked = json.dumps({"trace": trace.to_dict(), "spoil": spoil})
    command = [sys.executable, "-c", WINDOWED, asked]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, timeout=800, check=False)
    paths = [*project.runs.glob("*/record.json")]
    assert len(paths) == 1, done.stderr
    folder = RunDir(paths[0].parent)
    assert folder.read().trace == trace
    return folder, done.returncode, done.stderr


def traced(project: Project, body: str, level: str, *options: str) -> tuple[str, list[Line]]:
    """The result's digest and the ledger of one training."""
    project.write(START + body)
    done = project.train("--trace", level, *options)
    assert done.status == 0, done.err
    assert read_record(project.folder / done.run / "record.json").trace.level == level
    return done.line("result"), lines_of(project.folder / done.run)
