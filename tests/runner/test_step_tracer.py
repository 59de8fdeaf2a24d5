"""Which tensors of a step are captured, and in which line, for scripts that train in unusual ways."""

import pytest

from samebits.core.record import read_record
from samebits.core.trace_level import Trace
from samebits.host.audit.ledger_audit import check_ledger
from support.command import Project
from support.traced import EAGER, FIT, GRAPH, START, Line, lines_of, run_traced, traced


def steps_of(project: Project, body: str) -> list[Line]:
    """The lines of steps of one training at level `tensor`."""
    return [line for line in traced(project, body, "tensor")[1] if line["event"] == "step"]


def names(line: Line) -> list[str]:
    """The layers of a line's outputs; the model's input is called `input`."""
    return [item.get("part") or item["layer"] for item in line["outputs"]]


TWO_LOOPS = """
wrong = tf.Variable(0.0)
def train(model, steps, spoiled):
    optimizer = keras.optimizers.SGD(0.1)
    {decorator}
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x + wrong, training=True) - y) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
    for number in range(steps):
        wrong.assign({wrong} if number == spoiled else 0.0)
        step(x, y)
train(network("first"), {steps}, None)
train(network("second"), 6, {spoiled})
print("after")
"""


@pytest.mark.parametrize(
    ("decorator", "steps", "spoiled"),
    [("", 7, 4), ("@tf.function", 2, 4), ("", 3, 0)],
    ids=["longer-eager", "shorter-graph", "first-step"],
)
def test_a_window_selects_the_second_loop(project: Project, decorator: str, steps: int, spoiled: int) -> None:
    found = []
    for wrong in ("0.0", "0.5"):
        body = TWO_LOOPS.format(decorator=decorator, steps=steps, spoiled=spoiled, wrong=wrong)
        folder, status, _ = run_traced(project, body, Trace(level="tensor", loop=1, step=spoiled))
        assert (status, folder.read().outcome.message) == (0, "ended after the traced step, as asked")
        found.append(lines_of(folder.path, "step"))
        folder.path.rename(project.folder / wrong)
    (one,), (other,) = found
    assert [(line["loop"], line["step"], line["model"]) for line in (one, other)] == [(1, spoiled, "second")] * 2
    assert names(one) == ["input", "second/inner_second", "second/d_second", "second"]
    assert all(before != after for before, after in zip(one["outputs"], other["outputs"], strict=True))


TWO_OPTIMIZERS = """
one, two = network("one"), network("two")
adam, other = keras.optimizers.Adam(0.1), keras.optimizers.Adam(0.2)
@tf.function
def step(x, y):
    with tf.GradientTape() as tape, tf.GradientTape() as second:
        loss = tf.reduce_mean((one(x, training=True) - y) ** 2)
        loss2 = tf.reduce_mean((two(x, training=True) + y) ** 2)
    adam.apply(tape.gradient(loss, one.trainable_variables), one.trainable_variables)
    other.apply(second.gradient(loss2, two.trainable_variables), two.trainable_variables)
for _ in range(30):
    step(x, y)
"""


@pytest.mark.parametrize("level", ["step", "tensor"])
def test_two_optimizers_in_a_graph_take_turns(project: Project, level: str) -> None:
    """The lines of the two optimizers alternate, whatever TensorFlow runs in parallel."""
    for _ in range(2):
        lines = traced(project, TWO_OPTIMIZERS, level)[1]
        found = [(line["loop"], line["step"]) for line in lines if line["event"] == "step"]
        assert found == [(loop, step) for step in range(30) for loop in (0, 1)]
    for path in project.runs.glob("*/record.json"):
        assert check_ledger(path.with_name("ledger.jsonl"), read_record(path)).problems == ()


PREPARED = """
class Prepared(keras.utils.PyDataset):
    def __len__(self):
        return 200
    def __getitem__(self, index):
        for _ in range(5):
            keras.layers.Rescaling(0.5)(x[:4])
        return np.asarray(keras.layers.Rescaling(0.5)(x[:4])), y[:4]
model = network("prepared")
model.compile("sgd", "mse", run_eagerly=True)
model.fit(Prepared(workers=2, max_queue_size=4), verbose=0)
"""


def test_layers_in_other_threads_do_not_belong_to_the_step(project: Project) -> None:
    lines = steps_of(project, PREPARED)
    assert len(lines) == 200
    assert {tuple(names(line)) for line in lines} == {
        ("input", "prepared/inner_prepared", "prepared/d_prepared", "prepared")
    }


SALIENCY = """
model = network("looked")
optimizer = keras.optimizers.SGD(0.1)
other = network("other")
def look(model):
    with tf.GradientTape() as tape:
        given = tf.constant(x)
        tape.watch(given)
        out = model(given)
    return tape.gradient(out, given)
{decorator}
def step(x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
    optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
x = tf.constant(x)
for number in range(3):
    look(other)
    step(x, y)
    for _ in range(number):
        look(model)
"""


@pytest.mark.parametrize("decorator", ["", "@tf.function"], ids=["eager", "graph"])
def test_a_pass_without_a_step_belongs_to_no_step(project: Project, decorator: str) -> None:
    body = SALIENCY.format(decorator=decorator)
    lines = steps_of(project, body)
    expected = ["input", "looked/inner_looked", "looked/d_looked", "looked"]
    assert [sorted(names(line)) for line in lines] == [sorted(expected)] * 3
    for run in project.runs.iterdir():
        run.rename(project.folder / run.name)
    folder, _, _ = run_traced(project, body, Trace(level="tensor", loop=0, step=2))
    (line,) = lines_of(folder.path, "step")
    items = [*line["variables"], *line["gradients"], *line["outputs"]]
    assert {path.name for path in folder.tensors.iterdir()} == {item["digest"].partition(":")[2] for item in items}


PASSES = """
class Callback(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        with tf.GradientTape() as tape:
            self.model(x)
    on_epoch_end = on_train_batch_end
model = network("fitted")
model.compile("sgd", "mse", run_eagerly={eagerly})
model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[Callback()])
"""


@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
def test_a_pass_of_a_callback_belongs_to_no_step(project: Project, eagerly: bool) -> None:
    lines = steps_of(project, PASSES.format(eagerly=eagerly))
    expected = ["input", "fitted/inner_fitted", "fitted/d_fitted", "fitted"]
    assert [sorted(names(line)) for line in lines] == [sorted(expected)] * 4


PIECES = """
x = tf.constant(x)
inner, last = keras.layers.Dense(4, name="inner"), keras.layers.Dense(1, name="last")
optimizer = keras.optimizers.SGD(0.1)
inner.build((None, 3))
last.build((None, 4))
variables = inner.trainable_variables + last.trainable_variables
@tf.function
def apply(gradients):
    optimizer.apply(gradients, variables)
for number in range(3):
    with tf.GradientTape() as tape:
        hidden = {hidden}
        loss = tf.reduce_mean((last(hidden) - y) ** 2)
    gradients = tape.gradient(loss, variables)
    {apply}
"""


@pytest.mark.parametrize(
    ("hidden", "apply", "outputs"),
    [
        ("keras.remat(inner)(x)", "optimizer.apply(gradients, variables)", ["input", "last", "input", "inner"]),
        ("inner(x)", "apply(gradients)", ["input", "inner", "input", "last"]),
    ],
    ids=["computed-again", "applied-in-a-graph"],
)
def test_a_step_keeps_its_outputs(project: Project, hidden: str, apply: str, outputs: list[str]) -> None:
    """A layer is recomputed under a tape of its own; and only the optimizer is in a graph."""
    lines = steps_of(project, PIECES.format(hidden=hidden, apply=apply))
    assert [names(line) for line in lines] == [outputs] * 3


RAISED = """
class Full(Exception):
    pass
class Callback(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise Full
fitted = network("fitted")
fitted.compile("sgd", "mse")
try:
    fitted.fit(x, y, batch_size=8, verbose=0, callbacks=[Callback()])
except Full:
    pass
"""


def test_a_loop_after_a_fit_that_raised_has_its_line(project: Project) -> None:
    folder, _, _ = run_traced(project, RAISED + EAGER, Trace(level="tensor", loop=1, step=0))
    (line,) = lines_of(folder.path, "step")
    assert (line["loop"], len(line["gradients"]), names(line)[-1:]) == (1, 4, ["looped"])


UNTAPPED = """
from samebits.runner.trace import graph_taps as taps
from samebits.runner.trace import grappler_check
def broken(*_):
    raise RuntimeError("broken")
{broken}
"""


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("taps.harmless_tensors = broken", "cannot be tapped"),
        ("taps.GraphTaps._insert_tap = broken", "cannot be tapped"),
        ("grappler_check._MAX_ATTEMPTS = 0", "would be changed by a tap"),
    ],
    ids=["check-fails", "insert-fails", "attempts-exhausted"],
)
def test_what_is_not_tapped_is_reported_once(project: Project, broken: str, why: str) -> None:
    project.write(START + UNTAPPED.format(broken=broken) + GRAPH + FIT)
    done = project.train("--trace", "tensor")
    assert done.status == 0
    reported = [line for line in done.err.splitlines() if line.startswith("samebits: the ledger")]
    assert reported == [f"samebits: the ledger has no gradients and outputs of steps whose graph {why}"]
    lines = lines_of(project.folder / done.run, "step")
    assert len(lines) == 15
    assert {len(line["gradients"]) + len(line["outputs"]) for line in lines} == {0}
