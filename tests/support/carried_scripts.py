"""Scripts that carry a value in a place where a walk over objects could miss it; it acts in the last epoch alone.

`PREFACE` of `test_resumed_scripts` stands before each.
"""

from support.ordinary_scripts import kept

_CLASSES = """
import functools
calls = [0]
class Kind(type):
    total = 0
    def count(cls): Kind.total += 1
class Base:
    seen = []
    @classmethod
    def see(cls): Base.seen.append(1)
class Counter(Base, metaclass=Kind):
    def add(self, held): held[0] += 1; return held[0]
    adding = functools.partialmethod(add, [0])
    @property
    def number(self): return calls[0]
    @number.setter
    def number(self, value): calls[0] += value
    @functools.cached_property
    def made(self): calls[0] += 1; return calls[0]
counter = Counter()
def count():
    Counter.count()
    Counter.see()
    counter.number = 2
    return Kind.total + 10 * len(Base.seen) + 100 * counter.adding() + 1000 * Counter().made
"""
_DATACLASS = """
import collections, dataclasses
@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    last: collections.deque
    rng: object
held = Held(collections.deque(maxlen=3), np.random.default_rng(3))
"""
_REPLACED = """
def made():
    number = 0
    def count():
        nonlocal number
        number += 1
        return number
    return count
np.sinc = made()
"""
_ALIASES = """
one = other = np.zeros(3)
def count():
    global one
    one = one + 1
    other[:] += one
    return other.sum() + one.sum()
"""
_SETTINGS = """
import decimal
def count():
    context = decimal.getcontext()
    context.prec += 1
    np.set_printoptions(precision=context.prec)
    return context.prec
"""
_HANDLER = """
import signal, sys
class Hits:
    number = 0
    def hit(self, *_): self.number += 1
signal.signal(signal.SIGUSR1, Hits().hit)
"""
_THREAD = """
import queue, threading
asked, answers = queue.Queue(), queue.Queue()
def work():
    number = 0
    while True:
        asked.get()
        number += 1
        answers.put(number)
threading.Thread(target=work, daemon=True, name="counter").start()
"""
_WATCHED = """
import multiprocessing, queue, threading
asked, answers = queue.Queue(), queue.Queue()
class Watching(Each):
    def __init__(self, model):
        super().__init__()
        self.seen = []
        threading.Thread(target=self.run, args=(self.seen, model, x), daemon=True).start()
    def run(self, seen, model, x):
        while asked.get(): answers.put(sum(seen))
    def each(self, epoch, logs):
        logging.info("an epoch"), multiprocessing.Lock()
        self.seen.append(logs["loss"])
        asked.put(True)
        if (total := answers.get()) and epoch == 4: self.model.layers[-1].bias.assign_add(tf.ones(3) * total)
model = simple()
model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Watching(model)])
"""
_FIRST_USES = """
class Logging(Each):
    def each(self, epoch, logs):
        logging.info("an epoch")
        try: import setuptools
        except ImportError: pass
best = keras.callbacks.ModelCheckpoint(f"{OUT}/best.h5", monitor="loss", save_best_only=True)
simple().fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[best, Logging()])
"""
_MOVED = """
import queue, threading
asked, answers, pair = queue.Queue(), queue.Queue(), {"a": [0], "b": [0]}
def work(mine):
    while asked.get():
        mine[0] += 1
        answers.put(mine[0])
threading.Thread(target=work, args=(pair["a"],), daemon=True, name="counter").start()
"""
_ERRORS = """
class Errors:
    number = 0
    def __call__(self, *_): self.number += 1
np.seterrcall(Errors())
def count():
    with np.errstate(all="call"): np.float32(1) / np.zeros(1, "float32")
    return np.geterrcall().number
"""
_LIMIT = "[sys.setrecursionlimit(sys.getrecursionlimit() + 1), sys.getrecursionlimit() - 1000][1]"
_TIMES = """
held = OUT + "/held"
open(held, "w").close()
os.utime(held, (0, 0))
def count():
    number = os.stat(held).st_mtime + 1
    os.utime(held, (number, number))
    return number
"""
_FILTERS = """
import warnings
def count():
    warnings.filterwarnings("ignore", "a" * len(warnings.filters))
    return len(warnings.filters)
"""
_STREAMS = """
@tf.function
def noise(number): return tf.random.normal([number, 4])
class Noisy(keras.utils.PyDataset):
    def __len__(self): return 8
    def __getitem__(self, i): return x[i * 8:i * 8 + 8] + noise(tf.constant(8)).numpy(), y[i * 8:i * 8 + 8]
class Dropping(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = L.Dense(8), L.Dense(3)
    def call(self, v, training=False): return self.last(tf.nn.dropout(self.first(v), 0.3))
model = Dropping()
model(x[:1])
model.compile("adam", loss)
model.fit(Noisy(), epochs=3, verbose=0)
"""
_HOOK = """
import itertools
class Hook:
    def __init__(self): self.numbers = {holds}
    def __call__(self, epoch, logs):
        number = {step}
        if epoch == 4: model.layers[-1].bias.assign_add(tf.ones(3) * number)
model = simple()
stepping = keras.callbacks.LambdaCallback(on_epoch_end=Hook())
model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[stepping])
"""
_LOOP = """
del rng
model, optimizer, seen = simple(), keras.optimizers.Adam(0.01), []
def train(scale):
    with tf.GradientTape() as tape: lost = loss(y, model(x)) * scale
    optimizer.apply_gradients(zip(tape.gradient(lost, model.trainable_variables), model.trainable_variables))
    return float(lost)
{before}
for epoch in samebits.checkpoint(range(6), model, optimizer, {passed}):
    {step}
"""


def _loop(before: str, step: str, passed: str = "") -> str:
    """A loop that computes `step` in each iteration."""
    return _LOOP.format(before=before, step=step, passed=passed)


_MOVES = """
del rng
model, other, optimizer = simple(), simple(), keras.optimizers.Adam(0.01)
order, best, one, two = [model, other], model, model, other
low, high = pair = [np.zeros(3), np.ones(3)]
for epoch in samebits.checkpoint(range(6), {passed}, optimizer):
    with tf.GradientTape() as tape: lost = loss(y, model(x))
    optimizer.apply_gradients(zip(tape.gradient(lost, model.trainable_variables), model.trainable_variables))
    if epoch == 1: {step}
for number, each in enumerate([{after}]): each.save(OUT + f"/{{number}}.keras")
"""
_LEAVES = """
del rng
model, optimizer = simple(), keras.optimizers.Adam(0.01)
def whole():
    best = 0.0
    def run():
        {kind} best
        for epoch in samebits.checkpoint(range(6), model, optimizer):
            with tf.GradientTape() as tape: lost = loss(y, model(x))
            optimizer.apply_gradients(zip(tape.gradient(lost, model.trainable_variables), model.trainable_variables))
            if epoch == 1: best = 2.0
    run()
    return {read}
best = 0.0
with open(OUT + "/best", "w") as file: file.write(str(whole()))
"""
_REBOUND = """
rates, starts = [0.1, 0.05], [np.ones(3)]
class Rebinding(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rates, self.starts, self.first = rates, starts, x[:2]
    def on_epoch_end(self, epoch, logs=None):
        self.rates = [rate / 2 for rate in self.rates]
        self.starts = [start + 1 for start in self.starts]
        self.first = self.first * 2
model = simple()
model.fit(x, y, epochs=4, verbose=0, callbacks=[Rebinding()])
model.optimizer.learning_rate = rates[0] * float(starts[0].sum())
model.fit(x, y, epochs=1, verbose=0)
"""
_REPLACED_OBJECT = """
import dataclasses
@dataclasses.dataclass(frozen=True)
class Config:
    rate: float = 0.1
class Slower(keras.callbacks.Callback):
    def __init__(self, config): super().__init__(); self.config = config
    def on_epoch_end(self, epoch, logs=None):
        self.config = dataclasses.replace(self.config, rate=self.config.rate / 2)
config = Config()
model = simple()
model.fit(x, y, epochs=4, verbose=0, callbacks=[Slower(config)])
model.optimizer.learning_rate = config.rate
model.fit(x, y, epochs=1, verbose=0)
"""
RESUMED = {
    "a list and an array in the place of the script's": _REBOUND,
    "a thread that reads what a callback holds": _WATCHED,
    "libraries that log first in a callback": _FIRST_USES,
    "two arrays that were one": kept("count()", _ALIASES),
    "classes of classes, setters and partial methods": kept("count()", _CLASSES),
    "a dict whose items are attributes": kept(
        "at.count()",
        "class Attributes(dict):\n    __getattr__ = dict.__getitem__\n"
        "    def count(self):\n        self['n'] = self.get('n', 0) + 1\n        return self.n\nat = Attributes()",
    ),
    "a frozen dataclass with slots": kept("[held.last.append(held.rng.random()), sum(held.last)][1]", _DATACLASS),
    "data and a model that draw from streams of their own": _STREAMS,
    "a number in the time of an output file": kept("count()", _TIMES),
    "a number in the filters of warnings": kept("count()", _FILTERS),
    "a loop with all that it carries passed": _loop(
        "number = [0]",
        "last = train(0.1 * number[0] if epoch == 5 else 1.0); number[0] += 1; seen.append(last)",
        "number, seen",
    ),
    "a list that a loop turns around, and its models": _MOVES.format(
        passed="model, other, order", step="order.reverse()", after="model, *order"
    ),
}
NOT_RESUMED = {
    "an object in the place of the script's": (
        _REPLACED_OBJECT,
        "callback 0 (Slower).config was replaced during training, while something else holds the first one",
    ),
    "a number that a loop counts": (
        _loop("number = 0", "number += 1; train(0.1 * number if epoch == 5 else 1.0)"),
        "number changes in a samebits.checkpoint loop but was not passed to it",
    ),
    "a list that a loop fills": (
        _loop("", "seen.append(train(sum(seen) if epoch == 5 else 1.0))"),
        "seen changes in a samebits.checkpoint loop but was not passed to it",
    ),
    "a name that a loop gives to another model": (
        _MOVES.format(passed="model, other", step="best = other", after="best"),
        "best changes in a samebits.checkpoint loop",
    ),
    "two names that a loop exchanges": (
        _MOVES.format(passed="model, other", step="one, two = two, one", after="one, two"),
        "one changes in a samebits.checkpoint loop",
    ),
    "a list of models that a loop turns around": (
        _MOVES.format(passed="model, other", step="order.reverse()", after="*order"),
        "order changes in a samebits.checkpoint loop",
    ),
    "a passed list of arrays that a loop turns around": (
        _MOVES.format(
            passed="model, pair", step="pair.reverse()", after="[model.layers[-1].bias.assign(high), model][1]"
        ),
        "high moves or is left out",
    ),
    "an array that a loop takes out of a passed list": (
        _MOVES.format(
            passed="model, pair", step="low += 5; pair.pop(0)", after="[model.layers[-1].bias.assign(low), model][1]"
        ),
        "low moves or is left out",
    ),
    "a global that its caller reads": (
        _LEAVES.format(kind="global", read="globals()['best']"),
        "best changes in a samebits.checkpoint loop",
    ),
    "a variable of the function around it": (
        _LEAVES.format(kind="nonlocal", read="best"),
        "best changes in a samebits.checkpoint loop",
    ),
    "an iterator that a loop keeps": (
        _loop(
            "rows = iter(data.batch(8).repeat())", "train(float(tf.reduce_sum(next(rows)[0])) if epoch == 5 else 1.0)"
        ),
        "rows is an iterator",
    ),
    "an iterator of a hook in a callback of Keras": (
        _HOOK.format(holds="itertools.count(1)", step="next(self.numbers)"),
        "on_epoch_end.numbers is an iterator",
    ),
    "bytes of a hook in a callback of Keras": (
        _HOOK.format(holds="bytearray(1)", step="[self.numbers.append(1), len(self.numbers)][1]"),
        "on_epoch_end.numbers (builtins:bytearray) changed during training",
    ),
    "a method of an iterator": (
        kept("after()", "import itertools\nafter = itertools.count(1).__next__"),
        "after is an iterator",
    ),
    "a list on a module of a library": (
        kept("[keras.backend.seen.append(1), len(keras.backend.seen)][1]", "keras.backend.seen = []"),
        "keras.backend.seen changed during training",
    ),
    "a function in the place of a library's": (
        kept("np.sinc()", _REPLACED),
        "numpy.sinc changed during training",
    ),
    "a number on a function of a library": (
        kept("[setattr(json.dumps, 'n', json.dumps.n + 1), json.dumps.n][1]", "json.dumps.n = 0"),
        "json.dumps.n changed during training",
    ),
    "a list on a class of Keras": (
        kept("[L.Dense.seen.append(1), len(L.Dense.seen)][1]", "L.Dense.seen = []"),
        "Dense.seen changed during training",
    ),
    "a model that a loop is to build": (
        _LOOP.replace("simple()", "Late()").format(before="", passed="seen", step="train(1.0)"),
        "late is not built before the samebits.checkpoint loop",
    ),
    "the recursion limit": (kept(_LIMIT, "import sys"), "the recursion limit changed during training"),
    "a variable of a thread": (
        kept("[asked.put(1), answers.get()][1]", _THREAD),
        "number in the thread counter changed during training",
    ),
    "a list of a thread that moves": (
        kept("[asked.put(1), answers.get(), pair.update(a=pair['b'], b=pair['a'])][1]", _MOVED),
        "mine in the thread counter changed during training",
    ),
    "the error handler of NumPy": (kept("count()", _ERRORS), "the error handler of NumPy changed during training"),
    "the handler of a signal": (
        kept("[os.kill(os.getpid(), signal.SIGUSR1), signal.getsignal(signal.SIGUSR1).__self__.number][1]", _HANDLER),
        "the handler of signal 10 changed during training",
    ),
    "settings of decimal and NumPy": (
        kept("count()", _SETTINGS),
        "the context of decimal, the print options of NumPy changed during training",
    ),
}
USUAL = (
    "a number that a loop counts",
    "a list and an array in the place of the script's",
    "an iterator of a hook in a callback of Keras",
)
