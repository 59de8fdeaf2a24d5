"""Resumed runs reach the same bits, or the reason why they cannot is reported before training; runs of segments."""

import signal
from dataclasses import replace

import pytest

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.core.record import Resumability
from support.command import RESUMABLE, Project, call, newest
from support.lanes import long_tail
from support.machine import started
from support.resumed import as_if_killed_after, with_other_weights

pytestmark = pytest.mark.usefixtures("locked")


_USUAL = ("arrays", "beside_code", "loop", "pydataset", "reached", "reshuffled", "states")
"""Scripts that between them hold state of every kind; the others repeat it in other places."""


@pytest.mark.parametrize("resumable", long_tail(RESUMABLE, _USUAL), indirect=True)
def test_a_resumed_run_keeps_the_same_checkpoints(resumable: Project) -> None:
    """Resumed after an epoch or within one. By induction, a run may be killed and resumed any number of times."""
    done = resumable.train("--keep", "all", "--checkpoint-every", "3")
    assert done.status == 0, done.err
    whole = newest(resumable)
    positions = whole.checkpoints.positions()
    within_epoch = [position for position in positions if position.step is not None]
    after_epoch = [position for position in positions if position.step is None]
    chosen = [kind[len(kind) // 2] for kind in (after_epoch[:-1], within_epoch) if kind]
    assert chosen
    for position in chosen:
        interrupted = as_if_killed_after(whole, position, resumable.folder / position.name)
        done = call("resume", str(interrupted.path), folder=resumable.folder)
        assert done.status == 0, done.err
        resumed = newest(resumable)
        proof = resumed.read().origin.resumes
        assert proof is not None
        assert (proof.replays, proof.reproduced) == (position, True)
        assert resumed.read().result == whole.read().result
        assert resumed.ledger.read_bytes() == whole.ledger.read_bytes()
        assert resumed.checkpoints.positions() == positions
        for kept in positions:
            states = [_without_times(run.checkpoints.read(kept)) for run in (resumed, whole)]
            assert states[0] == states[1], kept


def _without_times(found: Checkpoint) -> Checkpoint:
    """A checkpoint without the times of output files, which no two trainings share."""
    written = {
        name: {kind: rows for kind, rows in part.items() if kind != "times"}
        for name, part in found.state.items()
        if name.startswith("written")
    }
    return replace(found, state={**found.state, **written})


@pytest.mark.slow
@pytest.mark.parametrize("resumable", ["arrays"], indirect=True)
@pytest.mark.parametrize(
    ("position", "line"), [("0000-000001-00000003", "fit 0, epoch 1, step 2"), ("0000-000001", "fit 0, epoch 0")]
)
def test_other_weights_than_the_ledger_has(resumable: Project, position: str, line: str) -> None:
    """Of a traced step, or of an epoch; the checkpoint's own digests are right."""
    done = resumable.train("--keep", "all", "--checkpoint-every", "3", "--trace", "step")
    assert done.status == 0, done.err
    changed = Position.parse(position)
    after = replace(changed, step=(changed.step or 0) + 3)
    interrupted = as_if_killed_after(newest(resumable), after, resumable.folder / "killed")
    with_other_weights(interrupted, changed)
    done = call("resume", str(interrupted.path), folder=resumable.folder)
    assert done.status == 2
    assert f"the checkpoint holds other values than the ledger has for {line} (optimizer)" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("resumable", ["arrays"], indirect=True)
def test_a_received_run_does_not_resume_from_weights_that_nothing_confirms(resumable: Project) -> None:
    done = resumable.train("--keep", "all", "--checkpoint-every", "3")
    assert done.status == 0, done.err
    whole = newest(resumable)
    last = Position(phase=0, epoch=1, step=6)
    interrupted = as_if_killed_after(whole, last, resumable.folder / "killed")
    lines = whole.ledger.read_bytes().splitlines(keepends=True)
    interrupted.ledger.write_bytes(b"".join(lines[: interrupted.checkpoints.read(last).lines]))
    with_other_weights(interrupted, replace(last, step=3))
    received = interrupted.path.rename(resumable.folder / "received")
    done = call("resume", str(received), folder=resumable.folder)
    assert done.status == 2
    assert "resuming" in done.err
    assert "did not reproduce phase 0 after 1 epoch, 3 steps into the next: model.optimizer" in done.err


PREFACE = """
import itertools, os
import keras, numpy as np, tensorflow as tf
import samebits
L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)
model = keras.Sequential([L.Input((4,)), L.Dense(3)])
adam = keras.optimizers.Adam()
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(adam, loss)

class Sees(keras.callbacks.Callback):
    def see(self, when):
        out = os.environ["SAMEBITS_OUTPUT"]
        if os.path.exists(f"{out}/../checkpoints/refused.json") and not os.listdir(out):
            open(f"{out}/{when}", "w").close()
    def on_train_batch_begin(self, batch, logs=None): self.see("before the first step")
    def on_train_batch_end(self, batch, logs=None): self.see("in the first step" if batch == 0 else "later")

def fit(self, *args, callbacks=(), fit=keras.Model.fit, **kwargs):
    return fit(self, *args, callbacks=[*callbacks, Sees()], **kwargs)

def step(a, b, adam=adam):
    with tf.GradientTape() as tape:
        lost = loss(b, model(a))
    adam.apply(tape.gradient(lost, model.trainable_variables), model.trainable_variables)

"""
REFUSED = {
    "generator": (
        """
def batches():
    while True: yield x[:8], y[:8]
model.fit(batches(), steps_per_epoch=4, epochs=3)
""",
        "x is a Python generator, whose position cannot be saved; use a PyDataset",
    ),
    "from_generator": (
        """
spec = (tf.TensorSpec([4]), tf.TensorSpec([], tf.int64))
data = tf.data.Dataset.from_generator(lambda: zip(x, y), output_signature=spec)
model.fit(data.batch(8), epochs=3)
""",
        "the tf.data pipeline calls Python",
    ),
    "py_function": (
        """
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
data = data.map(lambda a, b: (tf.ensure_shape(tf.numpy_function(lambda v: v, [a], tf.float32), [None, 4]), b))
model.fit(data, epochs=3)
""",
        "the tf.data pipeline calls Python",
    ),
    "TensorFlow's random counter": (
        """
class Noise(L.Layer):
    def call(self, v):
        drawn = tf.random.log_uniform_candidate_sampler([[1]], 1, 1, True, 50)
        return v + tf.cast(drawn[0][0], tf.float32)
model = keras.Sequential([L.Input((4,)), Noise(), L.Dense(3)])
model.compile("sgd", loss)
model.fit(x, y, epochs=3)
""",
        "the training draws random numbers by LogUniformCandidateSampler",
    ),
    "a Python function in a step": (
        """
class Through(L.Layer):
    def call(self, v): return tf.ensure_shape(tf.numpy_function(lambda a: a, [v], tf.float32), v.shape)
model = keras.Sequential([L.Input((4,)), Through(), L.Dense(3)])
model.compile('sgd', loss)
model.fit(x, y, epochs=3)
""",
        "the training calls Python from a graph (py_function or numpy_function)",
    ),
    "a step that was traced before the loop": (
        """
@tf.function
def noisy(a, b): step(a + tf.raw_ops.RandomStandardNormal(shape=tf.shape(a), dtype=tf.float32, seed=1), b)
noisy(x, y)
for _ in samebits.checkpoint(range(3), model, adam, rng): noisy(x, y)
""",
        "the training draws random numbers by RandomStandardNormal",
    ),
    "workers that share a generator": (
        """
class Data(keras.utils.PyDataset):
    def __len__(self): return 4
    def __getitem__(self, i): return x[:8] + rng.normal(size=(8, 4)), y[:8]
model.fit(Data(workers=2), epochs=3)
""",
        "the 2 workers of the PyDataset share a random generator",
    ),
    "workers that share NumPy's generator": (
        """
class Data(keras.utils.PyDataset):
    def __len__(self): return 4
    def __getitem__(self, i): return x[:8] + np.random.normal(size=(8, 4)), y[:8]
model.fit(Data(workers=2), epochs=3)
""",
        "the 2 workers of the PyDataset share a random generator",
    ),
    "an iterator": (
        """
class Counting(keras.callbacks.Callback):
    numbers = None
    def __init__(self):
        super().__init__()
        self.numbers = itertools.count()
    def on_epoch_end(self, epoch, logs=None): next(self.numbers)
model.fit(x, y, epochs=3, callbacks=[Counting()])
""",
        "callback 0 (Counting).numbers is an iterator (count), whose position cannot be saved",
    ),
    "an attribute of a layer": (
        """
class Growing(L.Layer):
    calls = 0
    def __init__(self):
        super().__init__()
        self.calls = 0
    def call(self, v):
        self.calls += 1
        return v * (1 + 0.1 * self.calls)
model = keras.Sequential([L.Input((4,)), Growing(), L.Dense(3)])
model.compile("sgd", loss)
model.fit(x, y, epochs=3)
""",
        "growing.calls changed during training",
    ),
    "a layer that is frozen during training": (
        """
class Freezing(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None): self.model.layers[0].trainable = False
model.fit(x, y, epochs=3, callbacks=[Freezing()])
""",
        "dense.trainable is changed while a graph is traced",
    ),
    "Python state of a loss": (
        """
held = {"by": 1.0}
def lost(a, b):
    held["by"] *= 0.9
    return loss(a, b) * held["by"]
model.compile("sgd", lost)
model.fit(x, y, epochs=3)
""",
        "held changed during training",
    ),
    "a model that its first step builds, eagerly": (
        """
class Mine(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(3)
    def call(self, v): return self.dense(v)
model = Mine()
model.compile("sgd", loss, run_eagerly=True)
model.fit(x, y, epochs=3)
""",
        "mine runs eagerly, and is not built before fit (dense_1)",
    ),
    "a layer that is frozen while its model is built": (
        """
class Freezing(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None): self.model.layers[0].trainable = False
model = keras.Sequential([L.Dense(4), L.Dense(3)])
model.compile("sgd", loss)
model.fit(x, y, epochs=3, callbacks=[Freezing()])
""",
        "dense_1.trainable changed during training",
    ),
    "a random cache zipped with another pipeline": (
        """
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64).cache()
data = tf.data.Dataset.zip(data, tf.data.Dataset.range(64).shuffle(64)).map(lambda both, _: both)
model.fit(data.batch(8), epochs=3)
""",
        "x combines a cached random pipeline with another pipeline",
    ),
    "a pipeline that validates, too": (
        """
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64).repeat(1)
model.fit(data.skip(16).batch(8), validation_data=data.take(16).batch(8), epochs=3)
""",
        "x and validation_data share a tf.data pipeline that reshuffles",
    ),
    "a pipeline that a callback iterates": (
        """
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64).repeat(2).batch(8)
class Evaluating(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None): next(iter(data))
model.fit(x, y, epochs=3, callbacks=[Evaluating()])
""",
        "a callback iterates, or evaluates on, a tf.data pipeline that reshuffles",
    ),
    "an optimizer that is not passed": (
        """
sgd = keras.optimizers.SGD()
for _ in samebits.checkpoint(range(3), model, rng): step(x, y, sgd)
""",
        "the optimizer sgd makes steps in a samebits.checkpoint loop but was not passed to it",
    ),
    "a pipeline that is not passed": (
        """
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64).batch(8)
for _ in samebits.checkpoint(range(3), model, adam, rng):
    for a, b in data: step(a, b)
""",
        "a tf.data pipeline that reshuffles, or changes variables, is iterated in a samebits.checkpoint loop",
    ),
    "a generator that is not passed": (
        """
for _ in samebits.checkpoint(range(3), model, adam): step(x + rng.normal(size=(64, 4)), y)
""",
        "the random generator rng was not passed to samebits.checkpoint; pass it, too",
    ),
}


REPORTED_IN_THE_FIRST_STEP = {"TensorFlow's random counter", "a Python function in a step"}
"""The step's graph is traced there."""
REPORTED_LATER = {
    "an attribute of a layer",
    "a layer that is frozen during training",
    "a layer that is frozen while its model is built",
    "Python state of a loss",
}


_SIMILAR = {
    *("from_generator", "a step that was traced before the loop", "workers that share NumPy's generator"),
    *("a layer that is frozen while its model is built", "a pipeline that is not passed"),
    "a generator that is not passed",
}
"""Refused for the reason that another script is refused for, too."""


@pytest.mark.parametrize("why", long_tail(REFUSED, REFUSED.keys() - _SIMILAR))
def test_what_cannot_be_resumed_is_reported_before_training(project: Project, why: str) -> None:
    script, message = REFUSED[why]
    project.write(f"{PREFACE}keras.Model.fit = fit\n{script}\n")
    done = project.train("--keep", "all")
    assert done.status == 0, done.err
    lines = [
        line for line in done.err.splitlines() if line.startswith("samebits: this run cannot be resumed exactly: ")
    ]
    assert sum(message in line for line in lines) == 1, done.err
    run = newest(project)
    record = run.read()
    assert record.resumable is not None
    assert not record.resumable.resumable
    assert message in record.resumable.reasons[0]
    assert run.checkpoints.positions() == []
    if why not in REPORTED_LATER and "fit(" in script:
        when = "in the first step" if why in REPORTED_IN_THE_FIRST_STEP else "before the first step"
        assert [path.name for path in run.outputs.iterdir()] == [when]
    refused = call("resume", run.path.name, folder=project.folder)
    assert (refused.status, refused.out) == (2, "")


PREEMPTED = """
import time
import keras, numpy as np
L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(160, 4)).astype("float32"), rng.integers(0, 3, 160)
model = keras.Sequential([L.Input((4,)), L.Dense(8), L.Dropout(0.3), L.Dense(3)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 5:
            print("ready", flush=True)
        time.sleep(0.1)

model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[Slow()])
"""


def test_sigterm_leaves_a_checkpoint_within_the_epoch(each_runtime: Project) -> None:
    each_runtime.write(PREEMPTED)
    with started(each_runtime.command(), cwd=each_runtime.folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=300)
        assert process.returncode == 143, complaint
    interrupted = newest(each_runtime)
    record = interrupted.read()
    assert (record.finalized, record.outcome.state, record.resumable) == (
        True,
        "interrupted",
        Resumability(resumable=True),
    )
    (position,) = interrupted.checkpoints.positions()
    assert (position.phase, position.epoch) == (0, 0)
    assert position.step is not None
    assert 6 <= position.step < 20
    done = call("resume", "last", folder=each_runtime.folder)
    assert done.status == 0, done.err
    found = newest(each_runtime).read()
    whole = each_runtime.train()
    assert whole.status == 0, whole.err
    assert newest(each_runtime).read().result == found.result
    assert len(found.result.fits[0].history["loss"]) == 2 if found.result else False


MOVES = """
kernel, bias = model.get_weights()
kernel[1, 1] = np.nextafter(kernel[1, 1], np.float32(9))
model.set_weights([kernel, bias])
"""


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (MOVES, "from fit 0, epoch 13 on: tensors.trainable"),
        ("np.random.random()", "the state at its end: random generator of NumPy"),
    ],
    ids=["moves a weight", "draws a number"],
)
def test_what_one_epoch_did_is_found_in_its_segment(project: Project, what: str, reason: str) -> None:
    """In the recorded run alone, a weight changes by one unit in the last place, or a random number is drawn."""
    marker = project.folder.parent / f"{project.folder.name}-moves"
    marker.touch()
    project.write(
        PREFACE
        + f"""
import time
class Moves(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.monotonic()
        if epoch == 13 and os.path.exists({str(marker)!r}):
            exec({what!r})
model.fit(x, y, epochs=20, verbose=0, callbacks=[Moves()])
"""
    )
    done = project.train("--keep", "all", "--threads", "1")
    assert done.status == 0, done.err
    marker.unlink()
    found = call("verify", "last", "--segments", "--jobs", "2", folder=project.folder)
    assert found.status == 1, found.err
    segment = "segment 14 (phase 0, epoch 13)"
    assert found.out.splitlines()[-1] == f"different: {segment}: {reason} (1 of 20 segments)"
    again = project.train("--keep", "all", "--threads", "1")
    assert again.status == 0, again.err
    found = call("verify", "last", "--segments", "--sample", "2", folder=project.folder)
    assert found.status == 0, found.err
    but = "except state of the script that training does not use: callback 0 (Moves).seconds"
    assert found.out.splitlines()[-1] == f"identical in 2 of 20 segments, drawn with seed 0; {but}"


def test_segments_in_containers(in_docker: Project) -> None:
    done = in_docker.train("--keep", "all", "--threads", "1")
    assert done.status == 0, done.err
    epochs = len(newest(in_docker).checkpoints.positions())
    found = call("verify", "last", "--segments", "--jobs", "2", folder=in_docker.folder)
    assert found.status == 0, found.err
    assert found.out.splitlines()[-1] == f"identical ({epochs} of {epochs} segments)"
