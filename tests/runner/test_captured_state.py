"""State wherever scripts keep it: a killed run resumes to the same bits, or says before that it cannot."""

import pytest

from support.command import Project, call, newest
from support.lanes import long_tail
from support.resumed import as_if_killed_after

pytestmark = pytest.mark.usefixtures("locked")

PREFACE = """
import collections, dataclasses, functools, itertools, os, threading
import keras, numpy as np, tensorflow as tf
L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

class Model(keras.Model):
    def __init__(self, **held):
        super().__init__()
        self.dense = L.Dense(3)
        self.build((None, 4))
        for name, value in held.items(): setattr(self, name, value)
    def build(self, shape):
        self.dense.build(shape)
        self.built = True
    def call(self, v): return self.dense(v)
    def by(self): return 1.0
    def train_step(self, data):
        a, b = data
        with tf.GradientTape() as tape:
            lost = loss(b, self(a, training=True)) * self.by()
        self._apply(tape.gradient(lost, self.trainable_variables))
        return {"loss": lost}
    def _apply(self, gradients): self.optimizer.apply(gradients, self.trainable_variables)

class Each(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None): self.each(epoch, logs)
def simple(**options):
    model = keras.Sequential([L.Input((4,)), L.Dense(8, activation="relu"), L.Dense(3)])
    model.compile(keras.optimizers.Adam(0.01), loss, **options)
    return model
"""

SAME = {
    "an optimizer in a private attribute": """
class Mine(Model):
    def _apply(self, gradients): self._opt.apply(gradients, self.trainable_variables)
model = Mine(_opt=keras.optimizers.Adam(0.05))
model.compile()
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "optimizers in a dict and a list": """
class Mine(Model):
    def _apply(self, gradients):
        self.opts["first"].apply(gradients[:1], self.trainable_variables[:1])
        self._more[0].apply(gradients[1:], self.trainable_variables[1:])
model = Mine(opts={"first": keras.optimizers.Adam(0.05)}, _more=[keras.optimizers.RMSprop(0.01)])
model.compile()
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "a global dict, in eager code": """
held = {"by": 1.0}
class Mine(Model):
    def by(self):
        held["by"] *= 0.9
        return held["by"]
model = Mine()
model.compile("adam", run_eagerly=True)
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "an object on the model, in eager code": """
class Held:
    def __init__(self): self.by = 1.0
class Mine(Model):
    def by(self):
        self._held.by *= 0.9
        return self._held.by
model = Mine(_held=Held())
model.compile("adam", run_eagerly=True)
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "a generator on a model, in eager code": """
class Mine(Model):
    def by(self): return float(self._rng.random())
model = Mine(_rng=np.random.default_rng(7))
model.compile("adam", run_eagerly=True)
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "a generator on a layer, in eager code": """
class Noise(L.Layer):
    def __init__(self):
        super().__init__()
        self._rng = np.random.default_rng(7)
    def call(self, v): return v * float(self._rng.random())
model = keras.Sequential([L.Input((4,)), Noise(), L.Dense(3)])
model.compile("adam", loss, run_eagerly=True)
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "one element of a large array on a layer, in eager code": """
class Scale(L.Layer):
    def __init__(self):
        super().__init__()
        self.by = np.ones(5000, "float32")
    def call(self, v):
        self.by[2500] *= 0.9
        return v * float(self.by.sum() - 4999)
model = keras.Sequential([L.Input((4,)), Scale(), L.Dense(3)])
model.compile("adam", loss, run_eagerly=True)
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "a moving average of a callback": """
model = simple()
class Averaging(Each):
    def __init__(self):
        super().__init__()
        self.ema = tf.train.ExponentialMovingAverage(0.9)
        self.held = [tf.Variable(v) for v in model.get_weights()]
        self.ema.apply(self.held)
    def each(self, epoch, logs):
        for one, other in zip(self.held, model.get_weights()): one.assign(other)
        self.ema.apply(self.held)
        model.set_weights([self.ema.average(v).numpy() for v in self.held])
model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Averaging()])
""",
    "a tf.Module of a callback": """
class Held(tf.Module):
    def __init__(self):
        super().__init__()
        self.rate, self.seen, self.count = tf.Variable(0.01), [], 0
class Lowering(Each):
    def __init__(self):
        super().__init__()
        self.module = Held()
    def each(self, epoch, logs):
        self.module.rate.assign(self.module.rate * 0.5)
        self.module.count += 1
        self.module.seen.append(epoch)
        self.model.optimizer.learning_rate = float(self.module.rate) + self.module.count * 1e-3
simple().fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Lowering()])
model = simple()
""",
    "class attributes and a closure of a layer, in eager code": """
def counting():
    n = [1]
    def f():
        n[0] += 1
        return n[0]
    return f
class Scale(L.Layer):
    count = 0
    seen = []
    f = staticmethod(counting())
    def call(self, v):
        Scale.count += 1
        self.seen.append(1)
        return v * (1 + 0.1 * Scale.count + 0.1 * len(self.seen) + 0.1 * self.f())
model = keras.Sequential([L.Input((4,)), Scale(), L.Dense(3)])
model.compile("adam", loss, run_eagerly=True)
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "an attribute of a layer of Keras, set by the script": """
model = simple()
model.layers[0]._mine, model.layers[1].also = {"rate": 0.01}, np.random.default_rng(3)
class Lowering(Each):
    def each(self, epoch, logs):
        self.model.layers[0]._mine["rate"] *= 0.5
        self.model.optimizer.learning_rate = self.model.layers[0]._mine["rate"] * self.model.layers[1].also.random()
model.compile(keras.optimizers.Adam(0.01), loss, run_eagerly=True)
model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Lowering()])
""",
    "a loss with state, in eager code": """
class Falling(keras.losses.Loss):
    def __init__(self):
        super().__init__()
        self._by = 1.0
    def call(self, a, b):
        self._by *= 0.9
        return loss(a, b) * self._by
model = simple()
model.compile("sgd", Falling(), run_eagerly=True)
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "an optimizer of the script, with Python state in eager code": """
class Mine(keras.optimizers.SGD):
    def __init__(self):
        super().__init__(0.1)
        self._seen = 0
    def apply(self, grads, trainable_variables=None):
        self._seen += 1
        return super().apply([g / self._seen for g in grads], trainable_variables)
model = simple()
model.compile(Mine(), loss, run_eagerly=True)
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "an optimizer of the script with variables": """
class Mine(keras.optimizers.Optimizer):
    def build(self, variables):
        if self.built: return
        super().build(variables)
        self._sums = [self.add_variable_from_reference(v, name="sum") for v in variables]
    def update_step(self, gradient, variable, learning_rate):
        s = self._sums[self._get_variable_index(variable)]
        self.assign_add(s, keras.ops.square(gradient))
        self.assign_sub(variable, gradient * keras.ops.cast(learning_rate, "float32") / (keras.ops.sqrt(s) + 1e-6))
model = simple()
model.compile(Mine(0.1), loss)
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "optimizers of a GAN on a callback": """
model = simple()
class Beside(Each):
    def __init__(self):
        super().__init__()
        self.__opt, self.v = keras.optimizers.Adam(0.1), keras.Variable([1.0])
    def each(self, epoch, logs):
        self.__opt.apply([self.v.value * 2], [self.v])
        self.model.optimizer.learning_rate = 0.01 * abs(float(self.v[0]))
model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Beside()])
""",
    "a bound method of another object": """
class Logger:
    def __init__(self): self.losses = []
    def log(self, epoch, logs): self.losses.append(logs["loss"])
class Hook(Each):
    def __init__(self, hook):
        super().__init__()
        self.hook = hook
    def each(self, epoch, logs): self.hook(epoch, logs)
logger = Logger()
simple().fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Hook(logger.log)])
model = simple()
open(os.environ["SAMEBITS_OUTPUT"] + "/told", "w").write(repr(logger.losses))
""",
    "knowledge distillation": """
class Distiller(keras.Model):
    def __init__(self, student, teacher):
        super().__init__()
        self.teacher, self.student = teacher, student
        self.tracker = keras.metrics.Mean(name="d")
        self.built = True
    def compile(self, optimizer, temperature=3):
        super().compile(optimizer=optimizer)
        self.distill, self.temperature = keras.losses.KLDivergence(), temperature
    def call(self, v): return self.student(v)
    def train_step(self, data):
        a, b = data
        t = self.teacher(a, training=False)
        with tf.GradientTape() as tape:
            s = self.student(a, training=True)
            lost = loss(b, s) + self.distill(tf.nn.softmax(t / self.temperature), tf.nn.softmax(s / self.temperature))
        g = tape.gradient(lost, self.student.trainable_variables)
        self.optimizer.apply_gradients(zip(g, self.student.trainable_variables))
        self.tracker.update_state(lost)
        return {"d": self.tracker.result()}
teacher = simple()
teacher.trainable = False
model = Distiller(simple(), teacher)
model.compile(keras.optimizers.Adam(0.01))
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
    "arrays in other orders, flags, a partial function, a bounded deque and a chain of mappings": """
import enum, re
class What(enum.Flag):
    LOSS, WEIGHTS = 1, 2
def scale(by, value): return by * value
class Keeping(Each):
    def __init__(self):
        super().__init__()
        self.kernel = self.part = None
        self.flags, self.what = re.I | re.M, What.LOSS | What.WEIGHTS
        self.by, self.last = functools.partial(scale, 1.0), collections.deque(maxlen=2)
        self.base = {"n": 0}
        self.chain = collections.ChainMap({}, self.base)
    def each(self, epoch, logs):
        if epoch == 0:
            held = np.random.default_rng(1).normal(size=(301, 77)).astype("float32")
            self.kernel, self.part = held.T, held[:, 1:]
            self.what = What.LOSS
        self.by = functools.partial(scale, 0.5 ** epoch)
        self.last.append(self.by(float(logs["loss"])))
        self.chain.maps[1]["n"] += 1
keeping, model = Keeping(), simple()
model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[keeping])
for name in ("kernel", "part"): np.save(f"{os.environ['SAMEBITS_OUTPUT']}/{name}.npy", getattr(keeping, name))
with open(f"{os.environ['SAMEBITS_OUTPUT']}/kept.txt", "w") as file:
    sums = [float(held.sum()).hex() for held in (keeping.kernel, keeping.part)]
    print(sums, keeping.flags, keeping.what, keeping.last, keeping.by(1.0), keeping.base, keeping.chain.maps, file=file)
""",
    "two fits, compiled again in between": """
model = simple()
model.fit(x, y, batch_size=16, epochs=2, verbose=0)
model.layers[0].trainable = False
model.compile("adam", loss)
model.fit(x, y, batch_size=16, epochs=3, verbose=0)
""",
    "two fits with nothing changed": """
model = simple()
model.fit(x, y, batch_size=16, epochs=2, verbose=0)
model.optimizer.learning_rate = 0.001
model.fit(x, y, batch_size=16, epochs=3, verbose=0)
""",
    "what a layer keeps while it is traced": """
class Keeping(L.Layer):
    last = None
    def build(self, shape): self.dense = L.Dense(4); self.dense.build(shape)
    def call(self, v):
        self.last = self.dense(v)
        return self.last
model = keras.Sequential([L.Input((4,)), Keeping(), L.Dense(3)])
model.compile("adam", loss, metrics=["accuracy"])
model.fit(x, y, batch_size=16, epochs=4, verbose=0, validation_data=(x, y))
""",
    "a variable of a list in a dict in a dataclass": """
@dataclasses.dataclass(slots=True)
class Held:
    rates: dict
model = simple()
held = Held({"a": [tf.Variable(0.01)]})
class Lowering(Each):
    def __init__(self):
        super().__init__()
        self._held = held
    def each(self, epoch, logs):
        self._held.rates["a"][0].assign(self._held.rates["a"][0] * 0.5)
        self.model.optimizer.learning_rate = float(held.rates["a"][0])
model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Lowering()])
""",
}

REFUSED = {
    "a global that a graph was traced with": (
        """
held = {"by": 1.0}
class Mine(Model):
    def by(self):
        held["by"] *= 0.9
        return held["by"]
model = Mine()
model.compile("adam")
model.fit(x, y, batch_size=16, epochs=4, verbose=0)
""",
        "changed during training; a graph may have been traced with the old value",
    ),
    "a private attribute that a callback changes": (
        """
class Mine(Model):
    def by(self): return self._by
model = Mine(_by=1.0)
class Changing(Each):
    def each(self, epoch, logs): self.model._by *= 0.5
model.compile("adam")
model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Changing()])
""",
        "model._by changed during training",
    ),
    "a value that is put back once a graph was traced with it": (
        """
class Mine(Model):
    def call(self, v): return self.dense(v) * self._by
model = Mine(_by=1.0)
class Changing(Each):
    def each(self, epoch, logs):
        if epoch == 1:
            self.model._by = 0.5
            self.model.predict(x, verbose=0)
            self.model._by = 1.0
model.compile("adam")
model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Changing()])
""",
        "model._by is changed while a graph is traced",
    ),
    "a setting that is put back once a graph was traced with it": (
        """
model = simple()
class Changing(Each):
    def each(self, epoch, logs):
        if epoch == 1:
            keras.config.set_epsilon(1e-3)
            self.model.evaluate(x, y, verbose=0)
            keras.config.set_epsilon(1e-7)
model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Changing()])
""",
        "epsilon of Keras is changed while a graph is traced",
    ),
    "one element of a large array that a graph was traced with": (
        """
class Scale(L.Layer):
    def __init__(self):
        super().__init__()
        self.by = np.ones(5000, "float32")
    def call(self, v): return v * float(self.by.sum() - 4999)
model = keras.Sequential([L.Input((4,)), Scale(), L.Dense(3)])
class Changing(Each):
    def each(self, epoch, logs): self.model.layers[0].by[2500] *= 0.5
model.compile("adam", loss)
model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Changing()])
""",
        "scale.by changed during training",
    ),
    "a layer frozen between two fits without compile": (
        """
model = simple()
model.fit(x, y, batch_size=16, epochs=2, verbose=0)
model.layers[0].trainable = False
model.fit(x, y, batch_size=16, epochs=3, verbose=0)
""",
        "dense.trainable changed after an earlier fit",
    ),
    "an optimizer's setting between two fits without compile": (
        """
model = simple()
model.fit(x, y, batch_size=16, epochs=2, verbose=0)
model.optimizer.clipnorm = 0.01
model.fit(x, y, batch_size=16, epochs=3, verbose=0)
""",
        "clipnorm changed after an earlier fit",
    ),
    "a lookup table": (
        """
class Holding(Each):
    def __init__(self):
        super().__init__()
        self.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, -1.0)
    def each(self, epoch, logs):
        self.table.insert(tf.constant([epoch], tf.int64), tf.constant([1.0]))
        self.model.optimizer.learning_rate = 0.01 / float(self.table.size())
simple().fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Holding()])
""",
        "table",
    ),
    "a queue of TensorFlow": (
        """
class Holding(Each):
    def __init__(self):
        super().__init__()
        self.queue = tf.queue.FIFOQueue(9, tf.float32)
    def each(self, epoch, logs): self.queue.enqueue(1.0)
simple().fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Holding()])
""",
        "queue is a tensorflow.python.ops.data_flow_ops.FIFOQueue, whose state cannot be saved",
    ),
    "a bytearray": (
        """
class Holding(Each):
    def __init__(self):
        super().__init__()
        self.held = bytearray(b"a")
    def each(self, epoch, logs):
        self.held.append(1)
        self.model.optimizer.learning_rate = 0.01 / len(self.held)
simple().fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Holding()])
""",
        "held (builtins:bytearray) changed during training",
    ),
    "a file that is read": (
        """
path = __file__
class Holding(Each):
    def __init__(self):
        super().__init__()
        self.file = open(path)
    def each(self, epoch, logs): self.model.optimizer.learning_rate = 0.01 * (1 + len(self.file.readline()))
simple().fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Holding()])
""",
        "file is an open file that is read",
    ),
    "a mirrored strategy": (
        """
with tf.distribute.MirroredStrategy(["CPU:0"]).scope(): model = simple()
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64).batch(16)
model.fit(data, epochs=4, verbose=0)
""",
        "the training is distributed by MirroredStrategy",
    ),
    "distributed data of a model outside of the scope": (
        """
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64).batch(16)
spread = tf.distribute.MirroredStrategy(["CPU:0"]).experimental_distribute_dataset(data)
simple().fit(spread, epochs=4, verbose=0)
""",
        "a strategy distributes the data of sequential, which was not made in its scope; train without a strategy",
    ),
    "two models in two threads": (
        """
models = [simple(), simple()]
threads = [threading.Thread(target=lambda m=m: m.fit(x, y, batch_size=16, epochs=4, verbose=0)) for m in models]
for t in threads: t.start()
for t in threads: t.join()
""",
        "is fitted in a thread of its own",
    ),
}


_LATE = """
{before}
class Late(Each):
    def each(self, epoch, logs):
        total = {step}
        if epoch == 3: self.model.layers[0].kernel.assign_add(tf.ones((4, 8)) * total)
model = simple()
model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Late()])
"""
"""What is counted in each epoch acts in the last one alone, after the epochs that a resumed run trains again."""


def late(before: str, step: str) -> str:
    """A script whose callback counts by the expression `step`."""
    return _LATE.format(before=before, step=step)


SAME |= {
    "a private slot": late(
        """
class Count:
    __slots__ = ("name", "__count")
    def __init__(self): self.name, self.__count = "t", 0.0
    def tick(self): self.__count += 1.0; return self.__count
held = Count()
""",
        "held.tick()",
    ),
    "validation data of a callback's own": late(
        """
class Each(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.validation_data = Sampler()
    def on_epoch_end(self, epoch, logs=None): self.each(epoch, logs)
class Sampler:
    def __init__(self): self.seen = 0.0
    def batch(self): self.seen += 1.0; return self.seen
""",
        "self.validation_data.batch()",
    ),
    "a callable object in a class": late(
        "class Sum:\n    t = 0.0\n    def __call__(self, v): self.t += v; return self.t\nclass Holder: total = Sum()",
        'Holder.total(logs["loss"])',
    ),
    "a metric in a class": late(
        "class Holder: seen = keras.metrics.Mean()",
        '(Holder.seen.update_state(logs["loss"]), Holder.seen.result())[1]',
    ),
    "a global by its text": late(
        "held = 0.0",
        'globals().__setitem__("held", globals()["held"] + logs["loss"]) or globals()["held"]',
    ),
    "a mapping of its own with a count": late(
        "class Store(collections.abc.MutableMapping):\n    def __init__(self): self.d, self.n = {}, 0\n"
        "    def __getitem__(self, k): return self.d[k]\n    def __setitem__(self, k, v): self.n += 1; self.d[k] = v\n"
        "    def __delitem__(self, k): del self.d[k]\n    def __iter__(self): return iter(self.d)\n"
        "    def __len__(self): return len(self.d)\nstore = Store()",
        '(store.__setitem__("a", 1), store.n * 1.0)[1]',
    ),
    "a chain of mappings": late(
        'chain = collections.ChainMap({}, {"a": 0})', '(chain.maps[1].update(a=chain["a"] + 1), chain["a"] * 1.0)[1]'
    ),
    "files of text and bytes": late(
        'out = os.environ["SAMEBITS_OUTPUT"]\ntext, raw = open(out + "/a.txt", "w"), open(out + "/b", "w+b")',
        '(text.write(f"{epoch} {logs}\\n"), raw.write(b"ab"), raw.tell() * 1.0)[2]',
    ),
}

REFUSED |= {
    "a compressed file that stays open": (
        late(
            'import gzip\nlog = gzip.GzipFile(os.environ["SAMEBITS_OUTPUT"] + "/log.gz", "wb", mtime=0)',
            '(log.write(b"line"), 1.0)[1]',
        ),
        "log is a gzip.GzipFile, which holds more than the bytes of its file",
    ),
    "a file that another one takes the place of": (
        late(
            'def there(name): return open(os.environ["SAMEBITS_OUTPUT"] + f"/{name}", "w")\nheld = [there(0)]',
            "(held[0].close(), held.__setitem__(0, there(epoch + 1)), 1.0)[2]",
        ),
        "became another open file during training, or was closed",
    ),
    "a lock": (
        late("lock = threading.Lock()", "(lock.acquire(False), 1.0)[1]"),
        "lock (_thread:lock) changed during training",
    ),
    "a time with attributes": (
        late(
            "import datetime\nclass Day(datetime.date): pass\nday = Day(2020, 1, 1)\nday.n = 0",
            '(setattr(day, "n", day.n + 1), 1.0)[1]',
        ),
        "Day) changed during training",
    ),
    "a buffer that a logger writes to": (
        late(
            "import io, logging\nlines = logging.StreamHandler(io.StringIO())",
            '(lines.emit(logging.makeLogRecord({"msg": "line"})), 1.0)[1]',
        ),
        "lines (logging:StreamHandler) changed during training",
    ),
    "an ordered dict with attributes": (
        late("d = collections.OrderedDict()\nd.n = 0", '(setattr(d, "n", d.n + 1), 1.0)[1]'),
        "d has attributes beside its content (n)",
    ),
    "a cache of a method in C": (
        late("first = functools.cache(rng.integers)", "float(first(9))"),
        "first is a cache of functools that was filled during training",
    ),
    "a database that stays open": (
        late(
            'import dbm.dumb\nheld = dbm.dumb.open(os.environ["SAMEBITS_OUTPUT"] + "/held", "c")',
            '(held.__setitem__(f"{epoch}", "a"), 1.0)[1]',
        ),
        "held is a dbm.dumb._Database, whose state cannot be saved",
    ),
    "a filled cache": (
        late("@functools.lru_cache(None)\ndef first(k): return float(np.random.rand())", "first(0)"),
        "first is a cache of functools that was filled during training",
    ),
    "a variable of the environment": (
        late("", '(os.environ.update(N=os.environ.get("N", "") + "a"), len(os.environ["N"]) * 1.0)[1]'),
        "the environment variable N changed during training",
    ),
    "a setting of Keras": (
        late("", "(keras.config.set_epsilon(keras.config.epsilon() * 2), keras.config.epsilon() * 1e6)[1]"),
        "epsilon of Keras changed during training",
    ),
    "a dict with attributes": (
        late(
            "class D(dict): pass\nd = D()\nd.total = 0.0", '(setattr(d, "total", d.total + logs["loss"]), d.total)[1]'
        ),
        "d has attributes beside its content (total)",
    ),
    "an array with attributes": (
        late(
            "class A(np.ndarray): pass\na = np.zeros(3).view(A)\na.total = 0.0",
            '(setattr(a, "total", a.total + 1), 1.0)[1]',
        ),
        "a has attributes beside its content (total)",
    ),
}


_USUAL = (
    *("an optimizer in a private attribute", "a generator on a layer, in eager code", "a moving average of a callback"),
    *("a bound method of another object", "knowledge distillation"),
)
"""Scripts that between them hold state of every kind."""


@pytest.mark.parametrize("what", long_tail(SAME, _USUAL))
def test_a_resumed_run_has_the_same_bits(project: Project, what: str) -> None:
    project.write(PREFACE + SAME[what])
    done = project.train("--keep", "all")
    assert done.status == 0, done.err
    whole = newest(project)
    record = whole.read()
    assert record.resumable is not None
    assert record.resumable.resumable, record.resumable.reasons
    for position in whole.checkpoints.positions()[1::2][:2]:
        interrupted = as_if_killed_after(whole, position, project.folder / position.name)
        done = call("resume", str(interrupted.path), folder=project.folder)
        assert done.status == 0, done.err
        assert newest(project).read().result == record.result
        assert newest(project).ledger.read_bytes() == whole.ledger.read_bytes()


def test_a_module_that_a_method_imports(project: Project) -> None:
    """Its globals are state, too: counted from the first epoch on, and used in the last one."""
    (project.folder / "helper.py").write_text("total = [0.0]\ndef note(v): total[0] += v; return total[0]\n")
    local = late("import helper as _", "None").replace(
        "total = None", "import helper; total = helper.note(logs['loss'])"
    )
    project.write(PREFACE + local)
    done = project.train("--keep", "all")
    assert done.status == 0, done.err
    whole = newest(project)
    position = whole.checkpoints.positions()[1]
    interrupted = as_if_killed_after(whole, position, project.folder / position.name)
    done = call("resume", str(interrupted.path), folder=project.folder)
    assert done.status == 0, done.err
    assert newest(project).read().result == whole.read().result


_USUALLY_REFUSED = (
    *("a global that a graph was traced with", "a private attribute that a callback changes", "a mirrored strategy"),
    *("a variable of the environment", "a layer frozen between two fits without compile"),
    *("two models in two threads", "a filled cache", "a dict with attributes"),
    "a value that is put back once a graph was traced with it",
)
"""One script for each reason."""


@pytest.mark.parametrize("what", long_tail(REFUSED, _USUALLY_REFUSED))
def test_a_run_that_would_resume_to_other_bits_is_refused(project: Project, what: str) -> None:
    script, message = REFUSED[what]
    project.write(PREFACE + script)
    done = project.train()
    assert done.status == 0, done.err
    record = newest(project).read()
    assert record.resumable is not None
    assert not record.resumable.resumable
    assert message in record.resumable.reasons[0]
