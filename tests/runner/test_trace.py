"""The levels of a trace: how they are requested, and what they add to the ledger of a trained script."""

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields
from samebits.core.recipe import Recipe
from samebits.core.record import Record, read_record
from samebits.core.run_config import OneLineParser, RunConfig, add_run_options, make_config
from samebits.core.run_dir import RunDir
from samebits.core.trace_level import LEVELS, Trace
from samebits.host.rerun.golden import Golden, models
from support.command import ROOT, Project, call
from support.lanes import long_tail
from support.traced import EAGER, FIT, GRAPH, START, Line, lines_of, run_traced, traced


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"level": "steps"}, "trace must be one of epoch, step, tensor, not 'steps'"),
        ({"step": -1}, "the number of a traced fit, loop, epoch or step must be 0 or more"),
        ({"epoch": 1}, "a traced epoch belongs to a fit; name the fit, too"),
        ({"fit": 0, "step": 1}, "a traced step of a fit belongs to an epoch; name the epoch, too"),
        ({"fit": 0, "loop": 0}, "a traced loop is the script's own; drop the fit and the epoch"),
        ({"loop": 0}, "a traced loop has no known end; name a step, too"),
        ({"loop": -1, "step": 0}, "the number of a traced fit, loop, epoch or step must be 0 or more"),
    ],
)
def test_an_invalid_trace_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Trace(**values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "trace",
    [
        Trace(),
        Trace(level="step", step=0),
        Trace(level="tensor", loop=1, step=0),
        Trace(level="tensor", fit=1, epoch=2, step=3),
    ],
)
def test_a_trace_round_trips(trace: Trace) -> None:
    assert Trace.from_fields(Fields(trace.to_dict())) == trace
    assert ("loop" in trace.to_dict()) == (trace.loop is not None)  # records were written before there was a loop


def test_a_tensor_trace_on_a_gpu_is_cautioned() -> None:
    cautions = {(level, device): Trace(level=level).caution(device) for level in LEVELS for device in ("cpu", "gpu")}
    found = {key: text for key, text in cautions.items() if text}
    assert found == {("tensor", "gpu"): "on GPUs it is not verified that a trace changes no bit"}


def test_an_unknown_level_cannot_be_read() -> None:
    with pytest.raises(RecordError, match=r"^'level': trace must be one of epoch, step, tensor, not 'x'$"):
        Trace.from_fields(Fields({"level": "x"}))


@pytest.mark.parametrize(
    ("toml", "words", "level"),
    [
        ("", [], "epoch"),
        ("trace = 'step'", [], "step"),
        ("trace = 'step'", ["--trace", "tensor"], "tensor"),
    ],
)
def test_a_level_from_configuration_and_options(tmp_path: Path, toml: str, words: list[str], level: str) -> None:
    (tmp_path / "samebits.toml").write_text(toml)
    parser = OneLineParser(prog="samebits train")
    add_run_options(parser)
    spec = make_config(vars(parser.parse_args([str(tmp_path / "train.py"), *words])))
    assert spec.trace == Trace(level=level)


def test_a_level_does_not_belong_to_the_recipe(example: Record) -> None:
    assert "trace" not in {name for name in RunConfig.__dataclass_fields__ if name in Recipe.__dataclass_fields__}
    assert "trace" not in example.recipe.to_dict()


@pytest.mark.parametrize("body", [FIT, EAGER, GRAPH], ids=["fit", "eager", "graph"])
def test_levels_change_nothing_but_the_ledger(project: Project, body: str) -> None:
    found = {level: traced(project, body, level) for level in LEVELS}
    results = {result for result, _ in found.values()}
    assert len(results) == 1
    without = {level: [line for line in lines if line["event"] != "step"] for level, (_, lines) in found.items()}
    assert without["epoch"] == without["step"] == without["tensor"] == found["epoch"][1]
    steps = [line for line in found["step"][1] if line["event"] == "step"]
    assert len(steps) == (12 if body == FIT else 3)
    assert len({line["tensors"]["trainable"] for line in steps}) == len(steps)
    finer = [line for line in found["tensor"][1] if line["event"] == "step"]
    for line, step in zip(finer, steps, strict=True):
        fast, exact = step.pop("tensors"), line["tensors"]
        assert {**line, **step} == line
        assert fast.keys() == exact.keys()
        assert {digest.partition(":")[0] for digest in fast.values()} == {"xxh3-128"}


def differing(one: list[Line], other: list[Line], part: str) -> list[str]:
    """The items of a part of the first lines that differ, by path of the variable or name of the layer."""
    return [
        item.get("path") or item["layer"]
        for item, twin in zip(one[0][part], other[0][part], strict=True)
        if item["digest"] != twin["digest"]
    ]


def first_difference(project: Project, one: str, other: str) -> tuple[list[Line], list[Line]]:
    """The lines of two scripts, from the first difference on."""
    found = [[line for line in traced(project, body, "tensor")[1] if line["event"] == "step"] for body in (one, other)]
    at = next(index for index, lines in enumerate(zip(*found, strict=True)) if lines[0] != lines[1])
    return found[0][at:], found[1][at:]


NUDGED = FIT.replace(
    "epochs=3",
    """callbacks=[keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: (len(seen), batch) == (1, 2) and bias().assign_add([0, 1, 0, 0]),
    on_epoch_end=lambda epoch, logs: seen.append(epoch))], epochs=3""",
).replace("model =", "seen = []\nbias = lambda: model.layers[0].bias\nmodel =")


def test_a_changed_weight_is_found(project: Project) -> None:
    one, other = first_difference(project, NUDGED.replace("[0, 1, 0, 0]", "[0, 0, 0, 0]"), NUDGED)
    assert (one[0]["epoch"], one[0]["step"]) == (1, 2)
    assert all(
        before["tensors"]["trainable"] != after["tensors"]["trainable"]
        for before, after in zip(one, other, strict=True)
    )
    assert differing(one, other, "variables") == ["fitted/inner_fitted/bias"]
    assert differing(one, other, "gradients") == differing(one, other, "outputs") == []


@pytest.mark.parametrize("decorator", ["", "@tf.function"], ids=["eager", "graph"])
def test_a_changed_gradient_is_found(project: Project, decorator: str) -> None:
    body = """
model = network("looped")
optimizer = keras.optimizers.SGD(0.1)
wrong = tf.Variable(0.0)
DECORATOR
def step(x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    gradients[2] = gradients[2] + wrong
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
for number in range(3):
    wrong.assign(WRONG if number == 1 else 0.0)
    step(x, y)
""".replace("DECORATOR", decorator)
    one, other = first_difference(project, body.replace("WRONG", "0.0"), body.replace("WRONG", "0.5"))
    assert (one[0]["loop"], one[0]["step"]) == (0, 1)
    assert differing(one, other, "outputs") == []
    assert differing(one, other, "gradients") == differing(one, other, "variables") == ["looped/d_looped/kernel"]


NOISY = """
class Noisy(keras.layers.Layer):
    def call(self, x):
        noise = tf.numpy_function(lambda: np.float32(int.from_bytes(os.urandom(3), "big")), [], tf.float32)
        return x + tf.ensure_shape(noise, []) / 2**24
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4, "tanh", name="before"), Noisy(name="noisy"),
                          keras.layers.Dense(1, name="after")])
model.compile("sgd", "mse")
model.fit(x, y, batch_size=8, verbose=0)
"""


def test_unseeded_noise_is_found(project: Project) -> None:
    one, other = first_difference(project, NOISY, NOISY + "\n")
    assert one[0]["step"] == 0
    assert "before" in [item["layer"].split("/")[-1] for item in one[0]["outputs"]]
    assert differing(one, other, "outputs")[0] == "sequential/noisy"


def test_what_is_fused_is_left_out(project: Project) -> None:
    """A tap would prevent the fusion and change the rounding. The portable profile fuses nothing."""
    body = """
inner = [keras.layers.Dense(64, name="fused"), keras.layers.Activation("sigmoid", name="whole"), keras.layers.Dense(1)]
model = keras.Sequential([keras.layers.Input((3,)), *inner])
model.compile("sgd", "mse")
model.fit(x, y, batch_size=8, verbose=0)
"""
    seen = {}
    for profile in ("native", "portable"):
        lines = traced(project, body, "tensor", "--profile", profile)[1]
        seen[profile] = {item["layer"].split("/")[-1] for item in lines[0]["outputs"]}
    assert seen["portable"] - seen["native"] == {"fused"}
    found = [read_record(path).environment.guarantee for path in project.runs.glob("*/record.json")]
    assert sorted("" if one is None else one.profile for one in found) == ["native", "portable"]


ODD = """
class Odd(keras.layers.Layer):
    def call(self, x):
        words = tf.strings.as_string(x)
        ragged = tf.RaggedTensor.from_tensor(x)
        return {"x": (x * 2, [tf.cast(x, "int32"), x > 0, tf.cast(x, "float16")]), "words": words, "ragged": ragged,
                "sparse": tf.sparse.from_dense(x), "none": None}
class Whole(keras.Model):
    def __init__(self):
        super().__init__(name="whole")
        self.odd, self.lstm, self.dense = Odd(), keras.layers.LSTM(3), keras.layers.Dense(1)
        self.table = keras.layers.Embedding(8, 3)
    def call(self, x):
        odd = self.odd(x)["x"][0]
        return self.dense(self.lstm(odd[:, :, None]) + odd + self.table(tf.cast(x, "int32"))[:, 0])
model = Whole()
model.compile("adam", "mse", steps_per_execution=3)
model.fit(x, y, batch_size=4, epochs=2, verbose=0, validation_data=(x, y))
model.compile("sgd", "mse", run_eagerly=True)
model.fit(x, y, batch_size=8, verbose=0)
model.compile("sgd", "mse", jit_compile=True)
keras.utils.clear_session()
flat = network("flat")
flat.compile("sgd", "mse", jit_compile=True)
flat.fit(x, y, batch_size=8, verbose=0)
keras.config.set_dtype_policy("mixed_float16")
mixed = network("mixed")
mixed.compile("adam", "mse")
mixed.fit(x * np.float32("nan"), y, batch_size=8, verbose=0)
mixed.train_on_batch(x, y)
@tf.function
def many(model, optimizer, batches):
    for a, b in batches:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.cast(model(a), "float32") - b) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
other = network("other")
many(other, keras.optimizers.SGD(0.1), tf.data.Dataset.from_tensor_slices((x, y)).batch(4))
@tf.function(jit_compile=True)
def compiled(model, optimizer):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.cast(model(x), "float32") ** 2)
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
last = network("last")
compiled(last, keras.optimizers.SGD(0.1))
"""


def test_what_cannot_be_tapped_is_left_out(project: Project) -> None:
    found = {level: traced(project, ODD, level) for level in LEVELS}
    assert len({result for result, _ in found.values()}) == 1
    lines = [line for line in found["tensor"][1] if line["event"] == "step"]
    assert [(line["epoch"], line["step"]) for line in lines if line.get("fit") == 0] == [(0, 2), (0, 5), (1, 2), (1, 5)]
    eager = next(line for line in lines if line.get("fit") == 1)
    types = [{item["dtype"] for item in line["outputs"] if item["layer"].endswith("odd")} for line in (lines[0], eager)]
    assert types[0] == {"float32"}  # in a graph, what nothing needs is not computed
    assert types[1] == {"float32", "int32", "bool", "float16", "int64"}
    table = [item for item in lines[0]["gradients"] if item["path"].endswith("embeddings")]
    assert [item["part"] for item in table] == ["values", "indices"]
    compiled = [line for line in lines if line["model"] == "flat"]  # which TensorFlow does not under op determinism
    assert [len(line["gradients"]) for line in compiled] == [4, 4]
    assert [line["step"] for line in lines if line["model"] == "other" and "loop" in line] == [0, 1, 2, 3]
    assert not [line for line in lines if line["model"] == "last"]


def test_what_xla_compiles_is_reported(project: Project) -> None:
    project.write(START + ODD)
    done = project.train("--trace", "step")
    assert "samebits: the ledger has no lines for steps that are compiled by XLA" in done.err.splitlines()


ENDED = {"state": "interrupted", "traceback": None, "exit_status": 0}


@pytest.mark.parametrize(
    ("trace", "steps", "epochs", "message"),
    [
        (
            Trace(level="step", fit=0, epoch=1),
            [(1, step) for step in range(4)],
            2,
            "ended after the traced epoch, as asked",
        ),
        (Trace(level="tensor", fit=0, epoch=1, step=2), [(1, 2)], 1, "ended after the traced step, as asked"),
        (Trace(level="step", fit=0), [(epoch, step) for epoch in range(3) for step in range(4)], 3, None),
        (Trace(level="epoch", fit=0, epoch=0), [], 1, "ended after the traced epoch, as asked"),
        (Trace(level="tensor", step=0), [], 3, None),
    ],
    ids=["epoch", "step", "fit", "level-epoch", "of-a-loop"],
)
def test_a_window_of_a_fit(
    project: Project, trace: Trace, steps: list[tuple[int, int]], epochs: int, message: str | None
) -> None:
    """A script that catches `Exception` cannot prevent the end of the run."""
    body = FIT.replace("model.fit", "try:\n    model.fit") + "except Exception:\n    pass\nprint('after')\n"
    folder, status, _ = run_traced(project, body, trace)
    record = folder.read()
    assert status == 0
    ended = message or ("ended after the traced fit, as asked" if trace.fit is not None else None)
    if ended is None:
        assert (record.outcome.state, record.result is not None) == ("finished", True)
    else:
        assert record.outcome.to_dict() == ENDED | {"message": ended}
        assert record.result is None
    assert ("after" in folder.log.read_text().splitlines()) == (ended is None)
    assert [(line["epoch"], line["step"]) for line in lines_of(folder.path, "step")] == steps
    assert len(lines_of(folder.path, "epoch")) == epochs
    assert folder.tensors.exists() == (trace.level == "tensor" and trace.fit is not None)


def kept(folder: RunDir, item: Line) -> bytes:
    """The stored bytes of a line's tensor, checked against their digest."""
    name: str = item["digest"].removeprefix("sha256:")
    content = (folder.tensors / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == name
    return content


@pytest.mark.parametrize("body", long_tail([EAGER, GRAPH], keep=[GRAPH]), ids=["eager", "graph"])
def test_a_window_of_a_loop_stores_the_tensors(project: Project, body: str) -> None:
    printed = "for v in model.trainable_variables: print(v.path, v.numpy().tobytes().hex(), flush=True)\n"
    folder, status, _ = run_traced(
        project, body.replace("    step(x, y)\n", f"    step(x, y)\n    {printed}"), Trace(level="tensor", step=1)
    )
    assert (status, folder.read().outcome.message) == (0, "ended after the traced step, as asked")
    (line,) = lines_of(folder.path, "step")
    assert (line["loop"], line["step"]) == (0, 1)
    entries = [*line["variables"], *line["gradients"], *line["outputs"]]
    assert {path.name for path in folder.tensors.iterdir()} == {
        item["digest"].removeprefix("sha256:") for item in entries
    }
    for item in entries:
        size = {"float32": 4, "int64": 8, "int32": 4}[item["dtype"]]
        assert len(kept(folder, item)) == size * math.prod(item["shape"])
    before = dict(row.split() for row in folder.log.read_text().splitlines() if row.startswith("looped/"))
    after = {item["path"]: kept(folder, item).hex() for item in line["variables"] if item["group"] == "trainable"}
    assert before.keys() == after.keys()
    assert all(before[path] != after[path] for path in after)  # printed after step 0, and never after step 1


@pytest.mark.parametrize("body", long_tail([FIT, EAGER, GRAPH], keep=[FIT, GRAPH]), ids=["fit", "eager", "graph"])
def test_a_tensor_that_cannot_be_stored_ends_the_run(project: Project, body: str) -> None:
    step = {"fit": 0, "epoch": 0, "step": 1} if body == FIT else {"step": 1}
    folder, status, err = run_traced(project, body, Trace(level="tensor", **step), spoil=True)
    record = folder.read()
    message = f"cannot write {folder.tensors}: File exists; choose a folder that you may write to"
    assert (status, record.outcome.state, record.outcome.message) == (2, "failed", message)
    complaints = [line for line in err.splitlines() if line.startswith("samebits: cannot")]
    assert complaints == [f"samebits: {message}"]


FAMILIES = ROOT / "examples" / "families"
TESTED_GROUPS = ("layers",)
"""The other groups were tested once by hand: each training of a group takes 15 seconds."""


def families(runs: Path, level: str, profile: str, group: str) -> Record:
    """One training of a group of models."""
    options = ("--runtime", "venv", "--runs", str(runs), "--trace", level, "--profile", profile)
    done = call("train", str(FAMILIES / "train.py"), *options, "--", group, folder=FAMILIES)
    assert done.status == 0, done.err
    return read_record(done.run / "record.json")


@pytest.mark.slow
@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("group", TESTED_GROUPS)
def test_no_level_changes_a_family(tmp_path: Path, group: str) -> None:
    """The coarsest and the finest level; the one between adds only a callback."""
    found = {level: families(tmp_path, level, "native", group) for level in ("epoch", "tensor")}
    digests = {level: models(record.result) for level, record in found.items()}
    assert digests["tensor"] == digests["epoch"]
    assert len({record.result_digest for record in found.values()}) == 1
    assert digests["epoch"].keys() == Golden.read(FAMILIES / "golden.json").rows[group].keys()


@pytest.mark.slow
@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("group", TESTED_GROUPS)
def test_no_level_reduces_the_portability_guarantee(tmp_path: Path, group: str) -> None:
    record = families(tmp_path, "tensor", "portable", group)
    assert models(record.result) == Golden.read(FAMILIES / "golden.json").rows[group]
    assert record.environment.guarantee is not None
    assert record.environment.guarantee.unproven == ()
