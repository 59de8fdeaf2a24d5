"""Of a large model, checkpoints of short epochs are left out: never the last one, and never what a resume needs."""

import signal

import pytest

from samebits.core.checkpoint_store import Position
from support.command import Project, call, newest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("locked")]

EPOCHS = 14
LARGE = f"""
import glob, os
import keras, numpy as np
rng = np.random.default_rng(1)
x = rng.normal(size=(8, 4200)).astype("float32")
model = keras.Sequential([keras.Input((4200,)), keras.layers.Dense(4200, "tanh"), keras.layers.Dropout(0.5),
                          keras.layers.Dense(1)])  # 71 MB
model.compile("sgd", "mse")

class Ends(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 9 and {{number}} and len(glob.glob(os.environ["SAMEBITS_OUTPUT"] + "/../../2*")) == 1:
            os.kill(os.getpid(), {{number}})

model.fit(x, x[:, :1], batch_size=8, epochs={EPOCHS}, verbose=0, callbacks=[Ends()])
"""


def epochs_kept(project: Project) -> list[int]:
    """After which epochs the newest run has a checkpoint; none lies within an epoch."""
    positions = newest(project).checkpoints.positions()
    assert positions == [Position(phase=0, epoch=position.epoch) for position in positions]
    return [position.epoch for position in positions]


@pytest.fixture
def whole(project: Project) -> Project:
    """A project whose large model was trained without interruption."""
    project.write(LARGE.format(number=0))
    done = project.train()
    assert done.status == 0, done.err
    return project


def test_the_last_checkpoint_is_written_and_others_are_left_out(whole: Project) -> None:
    first, last = epochs_kept(whole)
    assert last == EPOCHS
    assert first < EPOCHS - 1
    done = whole.train("--keep", "all")
    assert done.status == 0, done.err
    assert epochs_kept(whole) == [*range(1, EPOCHS + 1)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_left_checkpoints_out_resumes_to_the_same_bits(project: Project, number: signal.Signals) -> None:
    project.write(LARGE.format(number=int(number)))
    done = project.train()
    assert done.status != 0
    before = epochs_kept(project)
    # SIGTERM leaves one of the epoch that ended; a kill loses those since the last.
    assert (before[-1] == 10) == (number == signal.SIGTERM), before
    done = call("resume", "last", folder=project.folder)
    assert done.status == 0, done.err
    resumed = newest(project).read()
    proof = resumed.origin.resumes
    assert proof is not None
    assert proof.reproduced
    assert epochs_kept(project)[-1] == EPOCHS
    done = project.train()
    assert done.status == 0, done.err
    assert newest(project).read().result == resumed.result


# The signal arrives just after it was asked for, at the end of an epoch whose checkpoint is left out.
LATE = """
import os, signal
from samebits.runner.process.signals import Signals

asked = Signals.waits

def late(signals):
    found = asked(signals)
    Signals.waits = asked
    os.kill(os.getpid(), signal.SIGTERM)
    return found

class Arms(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 9:
            Signals.waits = late
"""


def test_a_signal_after_an_epoch_without_a_checkpoint_has_the_next_one(project: Project) -> None:
    script = LARGE.format(number=0).replace("class Ends", f"{LATE}\nclass Ends").replace("Ends()]", "Arms()]")
    project.write(script)
    done = project.train()
    assert done.status == 143, done.err
    assert epochs_kept(project)[-1] == 11


MANY = """
import keras, numpy as np
x = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
model.compile("sgd", "mse")
model.fit(x, x[:, :2], epochs=60, batch_size=16, verbose=0)
"""


@pytest.mark.parametrize("keep", ["last", "every:25"])
def test_segments_that_are_not_neighbours_by_one_epoch(project: Project, keep: str) -> None:
    project.write(MANY)
    done = project.train("--keep", keep)
    assert done.status == 0, done.err
    assert epochs_kept(project)[-2:] != [59, 60]
    done = call("verify", "last", "--segments", folder=project.folder)
    assert (done.status, done.out.splitlines()[-1][:9]) == (0, "identical"), done.out + done.err


UNCLOSED = """
import os
import keras, numpy as np, tensorflow as tf
x = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
model.compile("sgd", "mse")

class Log(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.hook = self.note
        self.writer = tf.io.TFRecordWriter(os.path.join(os.environ["SAMEBITS_OUTPUT"], "log.tfrecord"))
    def note(self, epoch):
        self.writer.write(f"epoch {epoch}".encode())
    def on_epoch_end(self, epoch, logs=None):
        self.hook(epoch)

def main():
    model.fit(x, x[:, :2], epochs=3, batch_size=16, verbose=0, callbacks=[Log()])

main()
"""


def test_what_a_writer_in_a_cycle_holds_is_in_the_result(project: Project) -> None:
    """It writes its bytes when it is collected."""
    project.write(UNCLOSED)
    done = project.train()
    assert done.status == 0, done.err
    assert (newest(project).outputs / "log.tfrecord").stat().st_size == 69
