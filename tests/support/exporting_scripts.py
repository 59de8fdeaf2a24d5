"""Scripts that export models, save checkpoints, show progress, or let workers rest: resumed, or refused.

`PREFACE` of `test_resumed_scripts` stands before each.
"""

from support.ordinary_scripts import kept

_AT_THE_END = """
inputs = L.Input((4,))
hidden = L.Dropout(0.3)(L.Dense(8, activation="relu")(inputs))
hidden = L.LSTM(3)(L.Reshape((2, 4))(L.BatchNormalization()(hidden)))
model = keras.Model(inputs, L.Dense(3)(hidden))
model.compile("adam", loss)
model.fit(x, y, batch_size=16, epochs=5, verbose=0, validation_data=(x, y))
model.export(OUT + "/saved", verbose=False)
model.export(OUT + "/again", verbose=False)
# Its optimizer has variables, too.
tf.saved_model.save(model, OUT + "/with_optimizer")
again = tf.saved_model.load(OUT + "/saved")
assert np.allclose(again.serve(x), model(x))
"""
_MODULE = """
class Holder(tf.Module):
    def __init__(self):
        self.v, self.w = tf.Variable([1.0, 2.0, 3.0, 4.0]), tf.Variable(2.0)
        rows = tf.lookup.KeyValueTensorInitializer(tf.constant([1, 2]), tf.constant([3, 4]))
        self.table = tf.lookup.StaticHashTable(rows, 0)
    @tf.custom_gradient
    def odd(self, n): return n * 2.0, lambda d: d * 3.0
    @tf.function
    def inner(self, n): return self.odd(tf.cond(tf.reduce_sum(n) > 0, lambda: n * self.w, lambda: n + self.v))
    @tf.function(input_signature=[tf.TensorSpec([4])])
    def call(self, n):
        i = tf.constant(0)
        while i < 3:
            n = self.inner(n)
            i += 1
        return n + tf.cast(self.table.lookup(tf.constant(1)), tf.float32)
    @tf.function
    def grad(self, n):
        with tf.GradientTape() as tape: found = self.call(n)
        return tape.gradient(found, self.v)
holder = Holder()
class Calling(Each):
    def each(self, epoch, logs): holder.v.assign(holder.call(x[0])), holder.grad(x[0])
simple().fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Calling()])
holder.grad(x[0])
tf.saved_model.save(holder, OUT + "/saved")
again, value = tf.saved_model.load(OUT + "/saved"), tf.Variable(x[0])
with tf.GradientTape() as tape: found = again.call(value)
with tf.GradientTape() as other: expected = holder.call(value)
assert np.array_equal(found, expected) and np.array_equal(again.grad(x[0]), holder.grad(x[0]))
assert np.array_equal(tape.gradient(found, value), other.gradient(expected, value))
"""
_IN_CALLBACKS = """
class Exporting(Each):
    def on_train_end(self, logs=None): self.model.export(OUT + "/end", verbose=False)
    def each(self, epoch, logs):
        self.model.export("last", verbose=False)
        self.model.export(f"{OUT}/saved{epoch}", verbose=False)
class Own(L.Layer):
    def __init__(self):
        super().__init__()
        self.d = L.Dense(4)
    @tf.function
    def call(self, v):
        for _ in tf.range(2): v = self.d(v)
        return v
model = keras.Sequential([L.Input((4,)), Own(), L.Dense(3)])
model.compile("adam", loss)
for epochs in (5, 2):
    model.fit(x, y, batch_size=24, epochs=epochs, verbose=0, validation_data=(x, y), callbacks=[Exporting()])
"""
_MODULE_IN_A_CALLBACK = """
class Exporting(Each):
    def each(self, epoch, logs): tf.saved_model.save(self.model, f"{OUT}/exported")
simple().fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Exporting()])
"""
_ROWS = """
class Rows(keras.utils.PyDataset):
    def __init__(self, **options):
        super().__init__(**options)
        self.rng, self.order = np.random.default_rng(7), np.arange(64)
    def __len__(self): return 8
    def __getitem__(self, i):
        rows = self.order[i * 8 : i * 8 + 8]
        return {read}, y[rows]
    def on_epoch_end(self): self.rng.shuffle(self.order)
simple().fit(Rows(workers=2), epochs=5, verbose=0)
"""
_MANAGED = """
class Managing(Each):
    def on_train_begin(self, logs=None):
        self.saved = tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)
        self.manager = tf.train.CheckpointManager(self.saved, OUT + "/saved", max_to_keep=2)
    def each(self, epoch, logs): self.manager.save()
class Counting(Each):
    def __init__(self, model):
        super().__init__()
        self.step = tf.Variable(0)
        self.saved = tf.train.Checkpoint(model=model, step=self.step)
        self.manager = tf.train.CheckpointManager(self.saved, "counted", max_to_keep=3)
        self.saved.restore(self.manager.latest_checkpoint)
    def each(self, epoch, logs):
        self.step.assign_add(1)
        if epoch % 2 == 0: self.manager.save(checkpoint_number=epoch)
model = simple()
model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Managing(), Counting(model)])
"""
_MANAGED_LOOP = """
model, optimizer = simple(), keras.optimizers.Adam(0.01)
model(x[:1])
saved = tf.train.Checkpoint(model=model, optimizer=optimizer)
manager = tf.train.CheckpointManager(saved, OUT + "/saved", max_to_keep=2)
for _ in samebits.checkpoint(range(5), model, optimizer, saved, manager, rng):
    for i in rng.permutation(4):
        with tf.GradientTape() as tape: lost = loss(y[i * 16 : i * 16 + 16], model(x[i * 16 : i * 16 + 16]))
        optimizer.apply_gradients(zip(tape.gradient(lost, model.trainable_variables), model.trainable_variables))
    manager.save()
"""
_WRITTEN = """
class Writing(Each):
    def each(self, epoch, logs): saved.write(OUT + f"/w{epoch}")
model = simple()
saved = tf.train.Checkpoint(model=model)
model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Writing()])
"""
_OVERWRITTEN = """
class Serving(tf.Module):
    def __init__(self, model): self.model, self.held = model, model.variables
    @tf.function
    def score(self, x): return self.model(x)
class Exporting(Each):
    def each(self, epoch, logs):
        if epoch == 0: serving.score(tf.ones([5, 4]))
        serving.score(tf.ones([2, 4]))
        if epoch == 2:
            self.model.export(OUT + "/exported", verbose=False)
            tf.saved_model.save(serving, OUT + "/exported")
model = simple()
serving = Serving(model)
model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Exporting()])
"""
# A stand-in by name: the lock has no tqdm.
_BAR = """
import sys, types
class Bar:
    def __init__(self, total): self.n, self.total, self.sp = 0, total, object()
    def update(self, by=1): self.n += by
Bar.__module__ = "tqdm.std"
bar = Bar(5)
"""

RESUMED = {
    "an exported model": _AT_THE_END,
    "an exported module with loops and gradients": _MODULE,
    "a model that callbacks export": _IN_CALLBACKS,
    "a manager of checkpoints in a callback": _MANAGED,
    "a manager of checkpoints in a loop": _MANAGED_LOOP,
    "a generator that workers do not draw from": _ROWS.format(read="x[rows]"),
    "the count of a bar": kept("[bar.update(), bar.n][1]", _BAR),
    "the total and text of a bar": kept(
        "[setattr(bar, 'total', bar.total + 2), setattr(bar, 'best', bar.total * 2), bar.total + bar.best][2]",
        _BAR + "bar.best = 0",
        'open(OUT + "/bar.txt", "w").write(f"{bar.n} of {bar.total}, {bar.best}")',
    ),
    "a checkpoint that is written without a manager": _WRITTEN,
}
NOT_RESUMED = {
    "a model that a callback exports with its optimizer": (
        _MODULE_IN_A_CALLBACK,
        "the model exported is exported during training",
    ),
    "a model that another one replaces in its folder": (_OVERWRITTEN, "the model exported is exported during training"),
    "a generator that workers draw from": (
        _ROWS.format(read='x[rows] + self.rng.normal(size=(8, 4)).astype("float32")'),
        "the 2 workers of the PyDataset share a random generator",
    ),
    "a generator that workers draw from by its name": (
        _ROWS.format(read='x[rows] + getattr(self, "rng").normal(size=(8, 4)).astype("float32")'),
        "the 2 workers of the PyDataset share a random generator",
    ),
    "the tasks of a progress of rich": (
        kept(
            "[progress.advance(task), progress.tasks[0].completed][1]",
            "from rich.progress import Progress\nprogress = Progress()\ntask = progress.add_task('a', total=5)",
        ),
        "progress",
    ),
    "the rows of a table of rich": (
        kept("[table.add_row('a'), table.row_count][1]", "from rich.table import Table\ntable = Table('a')"),
        "table",
    ),
}
USUAL = (
    *("an exported model", "a model that callbacks export", "a manager of checkpoints in a callback"),
    "a generator that workers do not draw from",
)
