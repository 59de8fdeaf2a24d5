"""Scripts that put something in the place of something else, or share it, where a resume could go wrong unseen.

`PREFACE` of `test_resumed_scripts` stands before each.
"""

_CALLBACK = """
import datetime, functools, sys, time, weakref
{before}
class Kept(keras.callbacks.Callback):
    def use(self, value): self.model.layers[-1].bias.assign_add(tf.ones(3) * float(value) * [0.1, 0.2, 0.3])
{methods}
callback, model = Kept(), simple()
model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[callback])
{after}
"""


def replacing(methods: str, before: str = "", after: str = "") -> str:
    """A script whose callback has these methods."""
    lines = "".join(f"    {line}\n" for line in methods.strip("\n").splitlines())
    return _CALLBACK.format(methods=lines, before=before, after=after)


_DIVERGED = """
class Infinite(keras.losses.Loss):
    def call(self, wanted, found): return tf.reduce_sum(found, -1) * np.inf - tf.reduce_sum(found, -1) * np.inf
model = simple()
model.compile("sgd", Infinite())
history = model.fit(x, y, batch_size=16, epochs=5, verbose=0).history
np.save(OUT + "/losses.npy", history["loss"])
simple().fit(x, y, batch_size=16, epochs=3, verbose=0)
"""
_METRICS = """
model = simple(metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(k=2)])
for part in (0.0, 0.2):
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, validation_split=part)
    np.save(OUT + f"/metrics{part}.npy", [float(value) for value in model.get_metrics_result().values()])
simple().fit(x, y, batch_size=16, epochs=3, verbose=0)
"""
_SEEDS = """
class Noisy(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = L.Dense(3)
    def call(self, v): return self.last(v)
    def train_step(self, data):
        a, b = data
        return super().train_step((a + 0.5 * tf.random.normal(tf.shape(a)), b))
class Seeds(keras.callbacks.Callback):
    def on_epoch_{when}(self, epoch, logs=None): {call}(100 + epoch)
for fold in range(2):
    keras.utils.set_random_seed(fold)
    model = Noisy()
    model.build((None, 4))
    model.compile("adam", loss)
    for _ in range(2): model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Seeds()])
"""

RESUMED = {
    "dates of the beginning": replacing(
        """
def __init__(self):
    super().__init__()
    self.started, self.day, self.parts = datetime.datetime.now(), datetime.date.today(), time.localtime()
    self.number = 0
def on_epoch_end(self, epoch, logs=None):
    self.number += self.started.year > 2000
    self.lasted = datetime.datetime.now() - self.started
    if epoch == 4: self.use(self.number + (self.parts.tm_year > 2000))
"""
    ),
    "the bits of a NaN": _DIVERGED,
    "a part of an array that is made during training": replacing(
        """
def on_epoch_end(self, epoch, logs=None):
    if epoch == 0:
        self.all = np.zeros(10)
        self.last = self.all[5:]
        self.seen = x[2:4]
    self.last += epoch
    self.seen *= 1.1
    if epoch == 4: self.use(self.all.sum() + x.sum())
"""
    ),
    "an array that becomes read-only": replacing(
        """
def __init__(self):
    super().__init__()
    self.held = np.zeros(3)
def on_epoch_end(self, epoch, logs=None):
    self.held.flags.writeable = False
    if epoch == 4:
        try: self.held += 1
        except ValueError: self.use(5)
"""
    ),
    "a pipeline of two that were there before": replacing(
        """
def __init__(self):
    super().__init__()
    self.all = [data.take(16).batch(8), data.skip(16).batch(8)]
    self.now = self.all[0]
def on_epoch_end(self, epoch, logs=None):
    if epoch == 0: self.now = self.all[1]
    if epoch == 4: self.use(self.model.evaluate(self.now, verbose=0))
"""
    ),
    "large arrays that change places": replacing(
        """
def __init__(self):
    super().__init__()
    self.one, self.other = ONE, OTHER
def on_epoch_end(self, epoch, logs=None):
    if epoch == 0: self.one, self.other = self.other, self.one
    if epoch == 4: self.use(self.one[0])
""",
        'ONE, OTHER = np.zeros(5 << 20, "float32"), np.ones(5 << 20, "float32")',
    ),
    "methods that take turns": replacing(
        """
def __init__(self):
    super().__init__()
    self.now, self.named, self.part = self.first, {"a": self.first}, functools.partial(self.first)
def first(self): return 1
def second(self): return 7
def on_epoch_end(self, epoch, logs=None):
    if epoch == 0: self.now, self.named["a"], self.part = self.second, self.second, functools.partial(self.second)
    if epoch == 4: self.use(self.now() + self.named["a"]() + self.part())
"""
    ),
    "objects that are keys": replacing(
        """
def __init__(self):
    super().__init__()
    self.tasks = {Task(number): number for number in range(8)}
def on_train_begin(self, logs=None): self.layers = {layer: 0 for layer in self.model.layers}
def on_epoch_end(self, epoch, logs=None):
    self.tasks.pop(next(iter(self.tasks)))
    if epoch == 0: self.layers.pop(self.model.layers[0])
    for task in self.tasks: task.done += 1
    for layer in self.layers: self.layers[layer] += len(layer.get_weights())
    self.use(sum(task.done * number for task, number in self.tasks.items()) * 0.01 + sum(self.layers.values()))
""",
        "class Task:\n    def __init__(self, number): self.done = number",
    ),
    "the order of attributes": replacing(
        """
def on_epoch_end(self, epoch, logs=None):
    if epoch == 0: bag.zeta, bag.alpha = 1, 2
    bag.beta = epoch
""",
        "class Bag: pass\nbag = Bag()",
        'open(OUT + "/bag.txt", "w").write(repr(vars(bag)))',
    ),
    "a global that is reached by the table of modules": replacing(
        """
def on_epoch_end(self, epoch, logs=None):
    sys.modules["__main__"].counter += 1
    sys._getframe().f_globals["other"] += 1
    Settings.Inner.number += 1
    if epoch == 4: self.use(sys.modules["__main__"].counter + other + Settings.Inner.number)
""",
        "counter = other = 0\nclass Settings:\n    class Inner: number = 0",
    ),
    "code of a container and of attributes": replacing(
        """
def __init__(self):
    super().__init__()
    self.held, self.counting = Doubling(a=1), Counting()
def on_epoch_end(self, epoch, logs=None):
    self.held["a"] = epoch
    self.counting.value = epoch
    if epoch == 4: self.use(sum(self.held.values()) + self.counting.times)
""",
        "class Doubling(dict):\n    def __setitem__(self, key, value): super().__setitem__(key, value * 2)\n"
        "class Counting:\n    times = 0\n    def __setattr__(self, name, value):\n"
        '        vars(self).update({name: value, "times": self.times + 1})',
    ),
    "attributes of variables": replacing(
        """
def __init__(self):
    super().__init__()
    self.own = tf.Variable(1.0)
def on_epoch_end(self, epoch, logs=None):
    for variable in (self.own, self.model.layers[0].kernel): variable.times = getattr(variable, "times", 0) + 1
    if epoch == 4: self.use(self.own.times + self.model.layers[0].kernel.times)
"""
    ),
    "metrics after the last epoch": _METRICS,
    "a seed at the beginning of each epoch": _SEEDS.format(when="begin", call="tf.random.set_seed"),
    "all seeds at the end of each epoch": _SEEDS.format(when="end", call="keras.utils.set_random_seed"),
}
NOT_RESUMED = {
    "a pipeline that is made anew": (
        replacing(
            """
def __init__(self):
    super().__init__()
    self.now = data.take(16).batch(8)
def on_epoch_end(self, epoch, logs=None):
    if epoch == 0: self.now = data.skip(16).take(16).batch(8)
    if epoch == 4: self.use(self.model.evaluate(self.now, verbose=0))
"""
        ),
        "(Kept).now became other data of the same kind during training",
    ),
    "an array of the validation data that changes": (
        """
rows, labels = x[:20].copy(), y[:20]
class Kept(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0: rows[:] *= 2
model = simple()
model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Kept()], validation_data=(rows, labels))
""",
        "__main__.rows changed during training, and Keras makes its validation data of it",
    ),
    "a set that was popped from": (
        replacing(
            """
def __init__(self):
    super().__init__()
    self.left = set(range(9))
def on_epoch_end(self, epoch, logs=None):
    self.left.pop()
    self.left.add(0)
    if epoch == 4: self.use(self.left.pop())
"""
        ),
        "(Kept).left is a set that changed during training",
    ),
    "a method of a class that is replaced": (
        replacing(
            """
def on_epoch_end(self, epoch, logs=None):
    if epoch == 0: Policy.act = lambda self: 7
    if epoch == 4: self.use(Policy().act())
""",
            "class Policy:\n    def act(self): return 1",
        ),
        "act of __main__.Policy got other code during training",
    ),
    "a function of weakref.finalize": (
        replacing(
            """
def on_epoch_end(self, epoch, logs=None):
    if epoch == 0: weakref.finalize(held[0], close)
    if epoch == 4:
        held.clear()
        self.use(sum(seen))
""",
            "class Held: pass\nheld, seen = [Held()], []\ndef close(): seen.append(7)",
        ),
        "weakref.finalize of __main__:close changed during training",
    ),
}
