"""The replay proof: state that no checkpoint holds is found when a run is resumed, before anything new is trained."""

import re
from dataclasses import replace

import pytest

from samebits.core.checkpoint_store import Position
from samebits.core.digest import Digest
from samebits.core.record import read_record, write_record
from support.command import Project, call, newest
from support.resumed import as_if_killed_after

pytestmark = pytest.mark.usefixtures("locked")

_PREFACE = """
import builtins, ctypes, os, sys, threading, time
import keras, numpy as np
import samebits
L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)
model = keras.Sequential([L.Input((4,)), L.Dense(8), L.Dropout(0.3), L.Dense(3)])
adam = keras.optimizers.Adam()
model.compile(adam, keras.losses.SparseCategoricalCrossentropy(from_logits=True))

# The C library holds this number; no object that a checkpoint reaches does.
def count():
    held = ctypes.c_int.in_dll(ctypes.CDLL(None), "optind")
    held.value += 1
    return held.value - 1
"""
_FIT = """
model.fit(x, y, batch_size=16, epochs=4, verbose=0, validation_data=(x, y), callbacks=[Hidden()])
"""
_ENVIRONMENT = """
class Hidden(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.scale = count()
"""
_WEIGHTS = """
class Hidden(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        bias = self.model.layers[-1].bias
        bias.assign(bias + 0.1 * count())
"""
_FILE = """
class Hidden(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        with open(os.environ["SAMEBITS_OUTPUT"] + "/log.txt", "a") as file:
            file.write("1" * count())
"""
_BESIDE = _FILE.replace('os.environ["SAMEBITS_OUTPUT"] + "/log.txt"', '"beside.txt"')
_LOOP = """
history = []
for epoch in samebits.checkpoint(range(4), model, adam, rng, history):
    model.train_on_batch(x, y)
    history.append(count())
"""
_HIDDEN = {
    "an attribute of a callback": (_ENVIRONMENT + _FIT, "callback 0 (Hidden).scale"),
    "what moves the weights": (_WEIGHTS + _FIT, "line 3 of the ledger (fit 0, epoch 2): val_loss"),
    "what is written": (_FILE + _FIT, "output file log.txt"),
    "what is written beside the script": (_BESIDE + _FIT, "output file beside.txt"),
    "a loop": (_LOOP, "argument 3 (list)"),
}


@pytest.mark.parametrize("what", _HIDDEN)
def test_hidden_state_is_found_and_named(project: Project, what: str) -> None:
    script, name = _HIDDEN[what]
    project.write(_PREFACE + script)
    assert project.train("--keep", "all").status == 0
    whole = newest(project)
    interrupted = as_if_killed_after(whole, Position(phase=0, epoch=3), project.folder / "killed")
    before = {path: path.read_bytes() for path in interrupted.path.rglob("*") if path.is_file()}
    done = call("resume", str(interrupted.path), "--runs", "runs", folder=project.folder)
    assert done.status == 2, done.err
    line = done.err.splitlines()[-1]
    assert "did not reproduce " in line
    assert f"{name} differs" in line
    resumed = newest(project)
    record = resumed.read()
    assert record.outcome.state == "failed"
    assert record.origin.resumes is not None
    assert (record.origin.resumes.replays, record.origin.resumes.reproduced) == (Position(phase=0, epoch=3), False)
    # Resuming finalizes the record of a run that was killed, writes it in words, and lists its files.
    kept = [path for path in before if path.name not in ("record.json", "README.txt", "files.jsonl")]
    assert {path: before[path] for path in kept} == {path: path.read_bytes() for path in kept}
    assert resumed.checkpoints.positions()[-1] == Position(phase=0, epoch=3), "nothing later was trained"


_TIMES = """
started = 0.0
import clocks
class Hidden(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seconds = []
    def on_epoch_begin(self, epoch, logs=None):
        global started
        self.begun, started = time.time(), time.perf_counter()
        clocks.note()
    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.time() - self.begun)
        self.model.save(os.environ["SAMEBITS_OUTPUT"] + "/model.keras")
        _ = time.perf_counter() - started
"""


_CLOCKS = """
import time
noted = 0.0
def note():
    global noted
    noted = time.time()
"""


def test_times_of_day_may_differ(project: Project) -> None:
    """Neither the seconds of a callback nor the date in a model file can be reproduced; each is reported."""
    project.write(_PREFACE + _TIMES + _FIT)
    (project.folder / "clocks.py").write_text(_CLOCKS)
    assert project.train("--keep", "all").status == 0
    whole = newest(project)
    interrupted = as_if_killed_after(whole, Position(phase=0, epoch=3), project.folder / "killed")
    done = call("resume", str(interrupted.path), "--runs", "runs", folder=project.folder)
    assert done.status == 0, done.err
    assert newest(project).read().result == whole.read().result
    reported = re.findall(r"not compared: (.*) holds a time", done.err)
    assert reported == ["callback 0 (Hidden).begun", "callback 0 (Hidden).seconds", "__main__.started", "clocks.noted"]


def test_a_fit_that_the_training_does_not_reach(project: Project) -> None:
    """The script trains two phases, and the second time one only."""
    marker = project.folder.parent / f"{project.folder.name}-twice"
    marker.touch()
    fit = "model.fit(x, y, batch_size=16, epochs=2, verbose=0)\n"
    project.write(f"{_PREFACE}{fit}if os.path.exists({str(marker)!r}):\n    {fit}")
    assert project.train("--keep", "all").status == 0
    interrupted = as_if_killed_after(newest(project), Position(phase=1, epoch=1), project.folder / "killed")
    marker.unlink()
    done = call("resume", str(interrupted.path), "--runs", "runs", folder=project.folder)
    assert done.status == 2
    assert "did not reproduce phase 1 after 1 epoch: the script ended before it" in done.err


def test_a_machine_that_computes_differently(project: Project) -> None:
    """The launcher may take the fingerprint from a cache; the run takes its own."""
    project.write(_PREFACE + "model.fit(x, y, epochs=3, verbose=0)")
    assert project.train("--keep", "all").status == 0
    interrupted = as_if_killed_after(newest(project), Position(phase=0, epoch=2), project.folder / "killed")
    record = read_record(interrupted.record)
    known = record.environment.arithmetic
    assert known is not None
    other = replace(known, digest=str(Digest.of_bytes(b"another machine")))
    write_record(interrupted.record, replace(record, environment=replace(record.environment, arithmetic=other)))
    done = call("resume", str(interrupted.path), "--runs", "runs", folder=project.folder)
    assert done.status == 2
    assert "this machine computes differently from the one that the resumed run began on" in done.err
    assert [path.name for path in newest(project).outputs.iterdir()] == []
