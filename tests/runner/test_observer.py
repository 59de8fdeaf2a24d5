"""What is recorded of scripts that train in unusual ways. Each case is a real training."""

from typing import Any

import pytest

from samebits.core.record import Record
from support.command import Project

START = """
import os
import keras, numpy as np, tensorflow as tf
x = np.arange(48, dtype="float32").reshape(16, 3) / 48
y = x.sum(axis=1, keepdims=True)
def network(name, units=1):
    return keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(units, name="d_" + name)], name=name)
"""

LOOP = """
model = network("looped")
optimizer = keras.optimizers.SGD(0.1)
@tf.function
def step():
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
for _ in range(3):
    step()
"""

ADVERSARIES = """
def train():
    one, two = network("one"), network("two")
    optimizers = keras.optimizers.Adam(), keras.optimizers.RMSprop()
    for model, optimizer in zip((one, two), optimizers):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
train()
"""

NESTED = """
backbone = network("backbone", 4)
inputs = keras.Input((3,))
model = keras.Model(inputs, keras.layers.Dense(1)(backbone(inputs)), name="whole")
model.compile("sgd", "mse")
model.train_on_batch(x, y)
"""

SUBCLASS = """
class Mine(keras.Model):
    def __init__(self):
        super().__init__(name="mine")
        self.dense = keras.layers.Dense(1)
    def call(self, inputs):
        return self.dense(inputs)
    def fit(self, *args, **kwargs):
        return super().fit(*args, **kwargs)
model = Mine()
model.compile("adam", "mse")
model.fit(x, y, 4, 2, 0)
model.fit(x, y, epochs=1, verbose=0, callbacks=keras.callbacks.TerminateOnNaN())
"""

CALLBACK_LIST = """
model = network("listed")
model.compile("adam", "mse")
stop = keras.callbacks.EarlyStopping(monitor="loss", patience=0, restore_best_weights=True)
callbacks = keras.callbacks.CallbackList([stop], add_history=True, model=model, epochs=2, verbose=0, steps=1)
for _ in range(2):
    model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
assert len(callbacks.callbacks) == 2, callbacks.callbacks
"""

SEARCH = """
import gc, weakref
gone = []
for trial in range(3):
    keras.utils.clear_session()
    model = network(f"trial_{trial}")
    model.compile("adam", "mse")
    model.fit(x, y, epochs=1, verbose=0)
    gone.append(weakref.ref(model))
keras.utils.clear_session()
del model
gc.collect()
print("alive", [reference() is not None for reference in gone])
"""

CLEARING = """
class Clear(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        keras.backend.clear_session()
model = network("clearing")
model.compile("adam", "mse")
model.fit(x, y, epochs=3, verbose=0, callbacks=[Clear()])
"""

VARIABLES = """
weight = keras.Variable([[1.0], [2.0], [3.0]], name="weight")
optimizer = keras.optimizers.SGD(0.1, name="bare")
with tf.GradientTape() as tape:
    loss = tf.reduce_mean((tf.matmul(x, weight.value) - y) ** 2)
optimizer.apply(tape.gradient(loss, [weight.value]), [weight])
"""


@pytest.mark.parametrize(
    ("body", "models", "fits"),
    [
        pytest.param(
            LOOP,
            [("looped", "loop", ["loop_optimizer_0", "non_trainable", "trainable"])],
            [],
            marks=pytest.mark.slow,  # as ADVERSARIES, with one model
        ),
        (
            ADVERSARIES,
            [
                ("one", "loop", ["loop_optimizer_0", "non_trainable", "trainable"]),
                ("two", "loop", ["loop_optimizer_0", "non_trainable", "trainable"]),
            ],
            [],
        ),
        pytest.param(
            NESTED, [("whole", "loop", ["non_trainable", "optimizer", "trainable"])], [], marks=pytest.mark.slow
        ),
        (SUBCLASS, [("mine", "fit", ["non_trainable", "optimizer", "trainable"])], [(0, 2), (0, 1)]),
        (CALLBACK_LIST, [("listed", "fit", ["non_trainable", "optimizer", "trainable"])], [(0, 2), (0, 2)]),
        (
            SEARCH,
            [(f"trial_{trial}", "fit", ["non_trainable", "optimizer", "trainable"]) for trial in range(3)],
            [(0, 1), (1, 1), (2, 1)],
        ),
        pytest.param(
            CLEARING,
            [("clearing", "fit", ["non_trainable", "optimizer", "trainable"])],
            [(0, 3)],
            marks=pytest.mark.slow,
        ),
        (VARIABLES, [("bare", "variables", ["loop_optimizer_0", "variables"])], []),
    ],
    ids=["loop", "adversaries", "nested", "subclass", "callback-list", "search", "clearing", "variables"],
)
def test_what_was_trained(project: Project, body: str, models: list[Any], fits: list[Any]) -> None:
    project.write(START + body)
    done = project.train()
    assert done.status == 0, done.err
    record = project.only_run()
    assert _models(record) == models
    assert record.result is not None
    assert [(fit.model, fit.epochs) for fit in record.result.fits] == fits
    if body == SEARCH:
        assert done.line("alive") == "[False, False, False]"  # models are freed, as the script intends
    before = {model.digest for model in record.result.models}
    project.write(START + body + "\n# the same once more\n")
    again = project.train()
    assert again.line("result") == done.line("result")
    assert len(before) == len(models)


def test_every_variable_is_in_the_result(project: Project) -> None:
    """Of each group as many as the model and its optimizer have, and by their own names."""
    project.write(
        START
        + """
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()], name="whole")
model.compile("adam", "mse")
model.fit(x, y, epochs=1, verbose=0)
for group in (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables):
    print("paths", *(variable.path for variable in group))
"""
    )
    done = project.train()
    assert done.status == 0, done.err
    paths = [line.split()[1:] for line in done.out.splitlines() if line.startswith("paths ")]
    result = project.only_run().result
    assert result is not None
    (model,) = result.models
    found = [[tensor.path for tensor in model.tensors[name]] for name in ("trainable", "non_trainable", "optimizer")]
    assert found == paths
    assert [len(group) for group in paths] == [4, 2, 10]


def _models(record: Record) -> list[tuple[str, str, list[str]]]:
    assert record.result is not None
    return [(model.name, model.how, list(model.tensors)) for model in record.result.models]


def test_a_change_after_fit_is_seen(project: Project) -> None:
    """The digest covers the weights at the end of the script, not at the end of `fit`."""
    body = 'model = network("m")\nmodel.compile("sgd", "mse")\nmodel.fit(x, y, verbose=0)\n'
    results = []
    for change in ("", "w = model.get_weights()\nw[1][0] += 1\nmodel.set_weights(w)\n"):
        project.write(START + body + change)
        results.append(project.train().line("result"))
    assert results[0] != results[1]


def test_watching_changes_no_bits(project: Project) -> None:
    """The same script, trained with the same settings, with and without the observer."""
    project.write(
        START
        + 'model = network("m")\nmodel.compile("adam", "mse")\nmodel.fit(x, y, epochs=2, verbose=0)\n'
        + "import hashlib\nweights = b''.join(w.tobytes() for w in model.get_weights())\n"
        + "print('weights', hashlib.sha256(weights).hexdigest())\n"
    )
    observed = project.train().line("weights")
    bare = project.folder / "bare.py"
    bare.write_text(
        "import os, keras, tensorflow as tf, runpy\ntf.config.experimental.enable_op_determinism()\n"
        "for f in (tf.config.threading.set_intra_op_parallelism_threads,"
        " tf.config.threading.set_inter_op_parallelism_threads): f(2)\n"
        "keras.utils.set_random_seed(0)\nrunpy.run_path('train.py', run_name='__main__')\n"
    )
    assert _bare(project) == observed


def _bare(project: Project) -> str:
    import os
    import subprocess

    from samebits.core.determinism_profile import Profile
    from samebits.host.launch.venv import locked_python

    done = subprocess.run(
        [locked_python(), "bare.py"],
        cwd=project.folder,
        env={**os.environ, **Profile().variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]


def test_a_disk_that_is_full_when_the_model_is_saved(project: Project) -> None:
    """The limit on the size of files stands for the disk: it fails the same call, after the training."""
    code = """
import resource
model = network("large", 50_000)
model.compile("sgd", "mse")
model.fit(x, y, verbose=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
"""
    project.script.write_text(START + code)
    done = project.train()
    assert done.status != 0
    assert "0-large.keras: File too large; raise the limit on the size of files (ulimit -f)" in done.err
    record = project.only_run()
    assert (record.outcome.state, record.result) == ("failed", None)
