"""`samebits check --resume`, and loops that no checkpoint belongs to."""

import json

import pytest

from support.command import Project, call, newest

pytestmark = pytest.mark.usefixtures("locked")

_PREFACE = """
import os, sys
import keras, numpy as np, tensorflow as tf
import samebits
L = keras.layers
keras.utils.set_random_seed(1)
x, y = np.random.normal(size=(400, 4)).astype("float32"), np.random.randint(0, 3, 400)
model = keras.Sequential([L.Input((4,)), L.Dense(8), L.Dropout(0.3), L.Dense(3)])
adam = keras.optimizers.Adam()
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(adam, loss)
"""
_LONG = """
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(400, seed=3).batch(2)
held = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
class Counts(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        open(os.environ["SAMEBITS_OUTPUT"] + "/steps", "a").write("1")
model.fit(data, epochs=100000, verbose=0, validation_data=held, callbacks=[Counts()])
"""
_HIDDEN = """
import ctypes
# The C library holds a number; no object that a checkpoint reaches does.
class Hidden(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        held = ctypes.c_int.in_dll(ctypes.CDLL(None), "optind")
        held.value += 1
        self.scale = held.value
model.fit(x, y, epochs=3, verbose=0, callbacks=[Hidden()])
"""
_STEP = """
def step():
    with tf.GradientTape() as tape:
        lost = loss(y, model(x))
    adam.apply(tape.gradient(lost, model.trainable_variables), model.trainable_variables)
"""
_BARE = f"{_STEP}\nfor _ in range(3): step()"
_OUTSIDE = "the optimizer adam makes steps outside of fit; wrap the loop in samebits.checkpoint"


def _checked(project: Project, script: str, *options: str) -> tuple[int, str]:
    project.write(_PREFACE + script)
    command = ("check", "--resume", *options, str(project.script), "--runtime", project.runtime)
    done = call(*command, folder=project.folder)
    assert "Traceback" not in done.err
    return done.status, done.out


def test_long_epochs_are_shortened(project: Project) -> None:
    status, out = _checked(project, _LONG, "--steps", "4")
    assert status == 0, out
    where, extent = out.splitlines()[-2:]
    assert where.startswith("resumed after phase 0 after 1 epoch in a new process, it reaches the same bits: ")
    assert where.endswith("the ledger and the state at 2 checkpoints")
    assert extent == "epochs of fit had 4 steps at most; later training was not run"


def test_a_short_script_is_compared_to_its_end(project: Project) -> None:
    fit = "model.fit(x, y, batch_size=200, epochs=1, verbose=0)\n"
    status, out = _checked(project, fit + fit, "--format", "json")
    assert status == 0, out
    found = json.loads(out)["resume"]
    assert (found["same"], found["whole"], found["start"]) == (True, True, "0000-000001")
    assert found["compared"] == ["0001-000001"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (_HIDDEN, "callback 0 (Hidden).scale differs"),
        pytest.param(_BARE.replace("range(3)", "range(9999999)"), _OUTSIDE, marks=pytest.mark.slow),
        ("print(1)", "it wrote no checkpoint: train by fit, or wrap the loop in samebits.checkpoint"),
        (
            "def g():\n    while 1: yield x, y\nmodel.fit(g(), steps_per_epoch=9, epochs=99999)",
            "x is a Python generator",
        ),
    ],
    ids=["hidden state", "a bare loop", "no training", "a generator"],
)
def test_what_does_not_resume_is_named(project: Project, script: str, reason: str) -> None:
    status, out = _checked(project, script)
    assert status == 1
    (line,) = [line for line in out.splitlines() if line.startswith("not resumable to the same bits: ")]
    assert reason in line


def test_a_script_that_fails_is_a_finding_of_its_own(project: Project) -> None:
    status, out = _checked(project, "sys.exit(3)")
    assert (status, out.splitlines()[-1]) == (1, "a short run failed: the script exited with status 3")
    status, out = _checked(project, "sys.exit(3)", "--format", "sarif")
    assert (status, [found["ruleId"] for found in json.loads(out)["runs"][0]["results"]]) == (1, ["SB704"])


def test_a_loop_without_checkpoints_says_so(project: Project) -> None:
    project.write(_PREFACE + _BARE + "\nsys.exit(3)")
    done = project.train()
    assert f"samebits: there is no checkpoint yet: {_OUTSIDE}" in done.err.splitlines()
    shown = call("show", "last", folder=project.folder).out
    assert "it finished" not in shown
    refused = call("resume", "last", "--retry-failed", folder=project.folder)
    assert (refused.status, refused.complaint.partition("resumed: ")[2]) == (
        2,
        f"not exactly: {_OUTSIDE}; train it again",
    )


def test_steps_before_a_fit_are_made_again(project: Project) -> None:
    project.write(f"{_PREFACE}{_STEP}\nstep()\nmodel.fit(x, y, epochs=2, verbose=0)")
    assert project.train().status == 0
    run = newest(project)
    record = run.read()
    assert record.resumable is not None
    assert record.resumable.resumable
    assert not run.checkpoints.refused()
