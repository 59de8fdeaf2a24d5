"""What scripts do with TensorFlow's random numbers, with models built late, and with pipelines: resumed, or refused."""

import pytest

from support import carried_scripts, exporting_scripts, ordinary_scripts, replaced_scripts, retracing_scripts
from support.lanes import long_tail
from support.state_runs import REFUSED, SAME, Cases, Ended

PREFACE = """
import enum, logging, logging.handlers, os
import keras, numpy as np, tensorflow as tf
import samebits
L = keras.layers
OUT = os.environ["SAMEBITS_OUTPUT"]
rng = np.random.default_rng(1)
x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)
data = tf.data.Dataset.from_tensor_slices((x, y))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
class Each(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None): self.each(epoch, logs)
def simple(**options):
    model = keras.Sequential([L.Input((4,)), L.Dense(8, activation="relu"), L.Dense(3)])
    model.compile(keras.optimizers.Adam(0.01), loss, **options)
    return model
class Late(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.inner = L.Dense(8, activation="relu"), L.Dropout(0.3), []
    def build(self, shape):
        self.last = L.Dense(3)
        self.inner.append(L.Dense(8))
        self.scale = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="scale")
        super().build(shape)
    def call(self, v, training=False):
        return self.last(self.inner[0](self.drop(self.first(v * self.scale), training=training)))
"""

_LATE = """
{before}
class Counting(Each):
    def each(self, epoch, logs):
        total = {step}
        if epoch == 3: self.model.layers[0].kernel.assign_add(tf.ones((4, 8)) * total)
simple_model = simple()
simple_model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Counting()])
"""
"""What is counted in each epoch acts in the last one alone, after the epochs that a resumed run trains again."""


def late(step: str, before: str = "") -> str:
    """A script whose callback counts by the expression `step`."""
    return _LATE.format(before=before, step=step)


_ENUM = "class M(enum.Enum):\n    A = 1\nM.A.n = 0"
_MIX = """
class Mix(keras.Model):
    def __init__(self):
        super().__init__()
        self.d = L.Dense(3)
    def call(self, v): return self.d(v)
    def train_step(self, data):
        a, b = data
        n = tf.shape(a)[0]
        by = tf.random.gamma([n, 1], 0.4)
        a = a * by + tf.gather(a, tf.random.shuffle(tf.range(n))) * (1 - by) + tf.random.normal(tf.shape(a))
        other = tf.random.categorical(tf.zeros([1, 3]), n)[0]
        with tf.GradientTape() as tape:
            lost = loss(b, self(a)) + loss(other, self(a)) * tf.random.uniform([]) * tf.random.poisson([], 2.0)
        self.optimizer.apply_gradients(zip(tape.gradient(lost, self.trainable_variables), self.trainable_variables))
        return {"loss": lost}
model = Mix()
model.compile("adam")
model.fit(x, y, batch_size=24, epochs=4, verbose=0)
"""
_LIKE_TENSORFLOW = """
r = tf.raw_ops
def drawn(normal, uniform, truncated, number, gamma):
    @tf.function
    def draw(n):
        return normal([n, 3]), uniform([n, 5]), truncated([n]), number([n]), gamma([n], tf.constant([1.0, 2.0]))
    return [value.numpy() for n in (4, 1000, 7) for value in draw(tf.constant(n))]
f32 = tf.float32
tf.random.set_seed(5)
ours = drawn(tf.random.normal, tf.random.uniform, tf.random.truncated_normal,
             lambda s: tf.random.uniform(s, 0, 10, tf.int32), tf.random.gamma)
s = dict(seed=5)
theirs = drawn(lambda s_: r.RandomStandardNormal(shape=s_, dtype=f32, seed2=0, **s),
               lambda s_: r.RandomUniform(shape=s_, dtype=f32, seed2=1, **s),
               lambda s_: r.TruncatedNormal(shape=s_, dtype=f32, seed2=2, **s),
               lambda s_: r.RandomUniformInt(shape=s_, minval=0, maxval=10, seed2=3, **s),
               lambda s_, alpha: r.RandomGamma(shape=s_, alpha=alpha, seed2=4, **s))
assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))
class Holder(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def draw(self, n): return tf.random.normal([n])
holder = Holder()
holder.draw(3)
tf.saved_model.save(holder, OUT + "/saved")
again = tf.saved_model.load(OUT + "/saved")
assert not np.array_equal(again.draw(3), again.draw(3))
assert not hasattr(holder, "samebits_streams")
"""
_LOOP = """
model, optimizers = Late(), {"one": keras.optimizers.Adam(0.01)}
model.build((None, 4))
model(x[:1])
rows = data.shuffle(64).batch(8)
@tf.function
def step(a, b):
    with tf.GradientTape() as tape: lost = loss(b, model(a + tf.random.normal(tf.shape(a)), training=True))
    variables = model.trainable_variables
    optimizers["one"].apply_gradients(zip(tape.gradient(lost, variables), variables))
for _ in samebits.checkpoint(range(5), model, optimizers, rows, rng):
    for a, b in rows: step(a, b)
"""
_LOOP_THEN_FITS = """
model, optimizer, rows = simple(), keras.optimizers.Adam(0.01), data.shuffle(64).batch(8)
for _ in samebits.checkpoint(range(1), model, optimizer, rows, rng):
    for a, b in rows:
        with tf.GradientTape() as tape: lost = loss(b, model(a))
        optimizer.apply_gradients(zip(tape.gradient(lost, model.trainable_variables), model.trainable_variables))
simple().fit(x, y, batch_size=16, epochs=3, verbose=0)
simple().fit(rows, epochs=2, verbose=0)
"""
_LATE_MODEL = """
model = {kind}()
model.compile("adam", loss, metrics=["accuracy"], {options})
model.fit(data.shuffle(64).batch(10), epochs=5, verbose=0, validation_data=(x, y), callbacks=[{callback}])
print(L.Dense(3).name)
"""
_SETTING = """
class Setting(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None): self.model.by = 0.5
class Scaled(Late):
    by = 0.0
    def __init__(self):
        super().__init__()
        self.by = 0.0
    def call(self, v, training=False): return super().call(v, training) * (1 + self.by)
"""
_FOLDS = """
for fold in range(3):
    keep = np.arange(64) % 3 != fold
    model = Late()
    model.compile("adam", loss)
    model.fit(x[keep], y[keep], batch_size=8, epochs=3, verbose=0, validation_data=(x[~keep], y[~keep]),
              callbacks=[keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)])
    keras.backend.clear_session()
"""
_SPLIT = """
both = data.shuffle(64)
train, held = both.skip(16).batch(8).prefetch(2), both.take(16).batch(8)
class Seeing(Each):
    total = 0.0
    def each(self, epoch, logs):
        for a, _ in both.batch(4).take(2): self.total += float(tf.reduce_sum(a))
        self.model.optimizer.learning_rate = 0.01 * abs(np.tanh(self.total))
seeing = Seeing()
seeing.total = 0.0
simple().fit(train, validation_data=held, epochs=5, verbose=0, callbacks=[seeing])
simple().fit(train, epochs=3, verbose=0)
"""
_EVALUATING = """
test = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64).batch(8)
class Seeing(Each):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1: self.total += float(tf.reduce_sum(next(iter(test))[0]))
    def each(self, epoch, logs):
        self.total += self.model.evaluate(test, verbose=0)
        self.model.optimizer.learning_rate = 0.01 * abs(np.tanh(self.total))
seeing = Seeing()
seeing.total = 0.0
simple().fit(data.shuffle(64).batch(8), epochs=5, verbose=0, callbacks=[seeing])
np.save(OUT + "/after.npy", [float(tf.reduce_sum(a)) for a, _ in test])
"""
_NAMES = """
class Probing(Each):
    def each(self, epoch, logs): keras.Sequential([L.Dense(2), L.Dense(1)])(x[:2])
simple().fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Probing()])
after = simple()
after.fit(x, y, batch_size=16, epochs=2, verbose=0)
"""
_NAMES_IN_A_STEP = """
class Joining(keras.Model):
    def __init__(self):
        super().__init__()
        self.d = L.Dense(3)
    def call(self, v): return self.d(L.concatenate([v, v]))
model = Joining()
model.compile("adam", loss)
model.fit(x, y, batch_size=16, epochs=4, verbose=0, validation_data=(x, y))
open(OUT + "/name", "w").write(L.Concatenate().name)
"""
_BATCHES = """
class Rows(keras.utils.PyDataset):
    def __len__(self): return 8
    def __getitem__(self, i): return x[i * 8 : i * 8 + 8], y[i * 8 : i * 8 + 8]
class Noise(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.layers[0].bias.assign_add(np.random.normal(size=8).astype("float32"))
simple().fit(Rows(), epochs=4, verbose=0, callbacks=[Noise()])
"""

RESUMED = (
    ordinary_scripts.RESUMED
    | carried_scripts.RESUMED
    | exporting_scripts.RESUMED
    | replaced_scripts.RESUMED
    | retracing_scripts.RESUMED
    | {
        "tf.random in a traced step": _MIX,
        "tf.random in the step of a loop": _LOOP,
        "a pipeline of a loop, and of a later fit": _LOOP_THEN_FITS,
        "tf.random with a seed, in a callback": late(
            "float(tf.random.normal([], seed=5) + tf.random.uniform([], seed=5))"
        ),
        "tf.random in a callback's own graph": late(
            "float(draw())", "@tf.function\ndef draw(): return tf.random.normal([])"
        ),
        "children of a generator": late("float(g.spawn(1)[0].random())", "g = np.random.default_rng(3)"),
        "children of a seed sequence": late(
            "float(np.random.default_rng(s.spawn(1)[0]).random())", "s = np.random.SeedSequence(3)"
        ),
        "automatic names of layers": late('float(L.Dense(2).name.rpartition("_")[2])'),
        "models made in a callback": _NAMES,
        "names given in a step": _NAMES_IN_A_STEP,
        "the step of tf.summary": late(
            "[step.set_step(step.get_step() + 1), step.get_step() * 1.0][1]",
            "step = tf.summary.experimental\nstep.set_step(0)",
        ),
        "the params of callbacks": late(
            '[self.params.update(n=self.params.get("n", 0) + 1), self.params["n"] * 1.0][1]'
        ),
        "an attribute of a member of an enumeration": late('[setattr(M.A, "n", M.A.n + 1), M.A.n * 1.0][1]', _ENUM),
        "a model that its first step builds": _LATE_MODEL.format(kind="Late", options="", callback=""),
        "a model that its first step builds, several steps at once": _LATE_MODEL.format(
            kind="Late", options="steps_per_execution=3", callback=""
        ),
        "folds with models that their first step builds": _FOLDS,
        "a pipeline that validates and is looked at, too": _SPLIT,
        "a pipeline that a callback evaluates": _EVALUATING,
        "two shuffles, one after the other": (
            "simple().fit(data.shuffle(64).map(lambda a, b: (a, b)).shuffle(10).batch(8), epochs=5, verbose=0)"
        ),
        "random numbers of a callback beside a PyDataset": _BATCHES,
    }
)
NOT_RESUMED = (
    ordinary_scripts.NOT_RESUMED
    | carried_scripts.NOT_RESUMED
    | exporting_scripts.NOT_RESUMED
    | replaced_scripts.NOT_RESUMED
    | retracing_scripts.NOT_RESUMED
    | {
        "a float with attributes": (
            late("[held.__setitem__(0, F(held[0] + 1)), float(held[0])][1]", "class F(float): pass\nheld = [F(1.0)]"),
            "held[0] (__main__:F) changed during training",
        ),
        "a handler that holds records back": (
            late(
                '[log.info("x"), len(log.handlers[0].buffer) * 1.0][1]',
                'log = logging.getLogger("a")\nlog.propagate = False\nlog.setLevel(10)\n'
                "log.addHandler(logging.handlers.MemoryHandler(100))",
            ),
            "log (logging:Logger) changed during training",
        ),
        "an operation that is not replaced": (
            late("float(tf.random.log_uniform_candidate_sampler([[1]], 1, 1, True, 50, seed=3)[0][0])"),
            "an eager random operation of TensorFlow with a seed of its own",
        ),
        "a setting before the first step that builds the model": (
            _SETTING + _LATE_MODEL.format(kind="Scaled", options="", callback="Setting()"),
            "model.by changed during training",
        ),
    }
)
_BY_PROOF = {"a setting before the first step that builds the model"}
_USUAL = (
    *("tf.random in a traced step", "a model that its first step builds"),
    *("a pipeline of a loop, and of a later fit", "a pipeline that a callback evaluates"),
    *ordinary_scripts.USUAL,
    *carried_scripts.USUAL,
    *exporting_scripts.USUAL,
)
_RARE = {
    *(*ordinary_scripts.NOT_RESUMED, *carried_scripts.NOT_RESUMED, *exporting_scripts.NOT_RESUMED),
    *(*replaced_scripts.NOT_RESUMED, *retracing_scripts.NOT_RESUMED),
} - {*_USUAL}


@pytest.fixture(scope="module")
def ended(
    locked: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Ended]]:
    """How the scripts ended that are asked for in this session, all in one process that forks."""
    assert locked is None
    texts = RESUMED | {name: text for name, (text, _) in NOT_RESUMED.items()}
    asked = [getattr(item, "callspec", None) for item in request.session.items]
    names = {item.params.get("name") for item in asked if item is not None}
    scripts = {name: PREFACE + text for name, text in texts.items() if name in names}
    return Cases(tmp_path_factory.mktemp("scripts"), []).resume(scripts, every=3)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", long_tail(RESUMED, _USUAL))
def test_a_resumed_script_has_the_same_bits(name: str, ended: dict[str, list[Ended]]) -> None:
    assert [found.verdict for found in ended[name]] in ([SAME], [SAME] * 2), ended[name]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", long_tail(NOT_RESUMED, {*NOT_RESUMED} - _RARE))
def test_a_script_that_would_resume_to_other_bits_is_refused(name: str, ended: dict[str, list[Ended]]) -> None:
    assert ended[name][0].verdict == REFUSED, ended[name]
    # What differs after the checkpoint is found by the replay proof.
    assert NOT_RESUMED[name][1] in ended[name][0].why or name in _BY_PROOF, ended[name]


def test_the_numbers_are_those_of_tensorflow(locked: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Operations in a graph, against those that are not replaced; a SavedModel holds what its functions draw from."""
    assert locked is None
    run = Cases(tmp_path_factory.mktemp("numbers"), []).train([PREFACE + _LIKE_TENSORFLOW])[0]
    assert run.read().outcome.state == "finished", run.read().outcome.traceback
