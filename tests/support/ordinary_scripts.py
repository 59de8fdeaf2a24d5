"""Scripts of an ordinary style in which a resume could go wrong unseen: what they keep acts in the last epoch alone.

`PREFACE` of `test_resumed_scripts` stands before each.
"""

_CALLBACK = """
import builtins, io, json, tempfile
{before}
class Keeping(Each):
    def each(self, epoch, logs):
        kept = {step}
        if epoch == 4: self.model.layers[-1].bias.assign_add(tf.ones(3) * tf.cast(kept, "float32") * [0.1, 0.2, 0.3])
model = simple()
model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Keeping()])
{after}
"""


def kept(step: str, before: str = "", after: str = "") -> str:
    """A script whose callback computes `step` in each epoch."""
    return _CALLBACK.format(step=step, before=before, after=after)


_TEMPORARY = """
class Counter:
    def __call__(self):
        number = json.load(open(path))["n"] + 1
        json.dump({"n": number}, open(path, "w"))
        return number
path = tempfile.mkdtemp() + "/state.json"
json.dump({"n": 0}, open(path, "w"))
count = Counter()
"""
_STRINGS = """
class Seeing(Each):
    def each(self, epoch, logs):
        self.model.words.assign([self.model.words[0] + "x", "epoch"])
        self.model.title.assign(tf.strings.join([self.model.title, "\u00e9"]))
        if epoch == 4: self.model.layers[-1].bias.assign_add(tf.ones(3) * float(tf.strings.length(self.model.words[0])))
model = simple()
model.words, model.title = tf.Variable(["a", "bc"]), tf.Variable("", name="title")
model.held = tf.constant(["of", "strings"])
model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Seeing()])
"""
_BEST = """
model = simple()
best = keras.callbacks.ModelCheckpoint({path}, save_weights_only=True, save_best_only=True, mode="max", monitor="loss")
for _ in range(2):
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[best])
    model.load_weights({path})
    model.evaluate(x, y, verbose=0)
"""
_ON_A_MODEL = """
class Seeing(Each):
    def each(self, epoch, logs):
        self.model.seen.append(float(self.model.evaluate(x, y, verbose=0)))
        self.model._best = max(self.model.seen)
model = simple()
model.seen = []
for _ in range(2): model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[Seeing()])
np.save(OUT + "/seen.npy", [*model.seen, model._best])
"""
_DRAWN_ANEW = """
numbers = tf.data.Dataset.random(seed=4, rerandomize_each_iteration=True)
def noisy(row, number): return row[0] + 0.1 * tf.random.stateless_normal([4], [number, number]), row[1]
simple().fit(tf.data.Dataset.zip(data, numbers).map(noisy).batch(16), epochs=5, verbose=0)
"""
_OPTIMIZERS = """
keras.mixed_precision.set_global_policy("mixed_float16")
model = keras.Sequential([L.Input((4,)), L.Dense(8, activation="relu"), L.Dense(3, dtype="float32")])
inner = keras.optimizers.AdamW(0.01, use_ema=True, ema_overwrite_frequency=7, gradient_accumulation_steps=3)
scaled = keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=2.0**10, dynamic_growth_steps=5)
model.compile(scaled, loss)
model.fit(x, y, batch_size=16, epochs=5, verbose=0)
"""
_BUILT_LATE = """
class Block(L.Layer):
    def build(self, shape):
        self.blocks = [L.Dense(8, activation="relu") for _ in range(2)]
        self.heads = {"one": L.Dense(3), "other": L.Dense(3)}
        self.drop = L.Dropout(0.2, seed=4)
    def call(self, v, training=False):
        for block in self.blocks: v = block(v)
        return self.heads["one"](self.drop(v, training=training)) + self.heads["other"](v)
class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.block = Block()
    def call(self, v, training=False): return self.block(v, training=training)
model = Net()
model.compile("adam", loss)
model.fit(x, y, batch_size=16, epochs=5, verbose=0)
"""
_ROWS = """
class Rows(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(3)
    def __len__(self): return 8
    def __getitem__(self, i):
        chosen = self.generator.integers(0, 64, 8)
        return x[chosen] + self.generator.normal(size=(8, 4)).astype("float32"), y[chosen]
class Noise(L.Layer):
    def call(self, v): return v + 0.1 * tf.random.normal(tf.shape(v))
model = keras.Sequential([L.Input((4,)), Noise(), L.GaussianNoise(0.1), L.Dropout(0.2), L.Dense(3)])
model.compile("adam", loss)
model.fit(Rows(), epochs=5, verbose=0)
"""
_CALLBACKS = """
K = keras.callbacks
model = simple()
model.compile(keras.optimizers.Adam(0.05, use_ema=True), loss)
model.fit(x, y, batch_size=16, epochs=9, verbose=0, validation_split=0.3, callbacks=[
    K.BackupAndRestore("backup"), K.CSVLogger("log.csv", append=True), K.TerminateOnNaN(),
    K.ReduceLROnPlateau(patience=1, factor=0.5, mode="max"), K.SwapEMAWeights(swap_on_epoch=True),
    K.EarlyStopping(patience=5, restore_best_weights=True, start_from_epoch=2, mode="max")])
"""
_LOOP = """
model, seen = simple(metrics=["accuracy"]), []
for _ in samebits.checkpoint(range(5), model, model.optimizer, rng, seen):
    for i in rng.permutation(4):
        seen.append(model.train_on_batch(x[i * 16 : i * 16 + 16], y[i * 16 : i * 16 + 16])[0])
    model.reset_metrics()
"""
_TUNED = """
best = None
for units in (4, 8):
    for rate in (0.1, 0.01):
        model = keras.Sequential([L.Input((4,)), L.Dense(units), L.Dense(3)])
        model.compile(keras.optimizers.Adam(rate), loss)
        stopping = keras.callbacks.EarlyStopping(patience=2)
        seen = model.fit(x, y, batch_size=16, epochs=3, validation_split=0.3, verbose=0, callbacks=[stopping])
        value = min(seen.history["val_loss"])
        if best is None or value < best[0]: best = value, model
copy = keras.models.clone_model(best[1])
copy.set_weights(best[1].get_weights())
copy.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
copy.fit(x, best[1].predict(x, verbose=0).argmax(1), epochs=3, verbose=0)
"""
_FIRST_EPOCHS = """
model = simple()
weights = {0: 1.0, 1: 2.0, 2: 0.5}
model.fit(x, y, batch_size=16, initial_epoch=2, epochs=5, class_weight=weights, validation_data=(x, y),
          validation_freq=2, verbose=0)
for i in range(4): model.train_on_batch(x[i * 16 : i * 16 + 16], y[i * 16 : i * 16 + 16])
seen = model.fit(x, y, initial_epoch=5, epochs=8, validation_split=0.2, validation_freq=[6, 8], verbose=0)
np.save(OUT + "/seen.npy", seen.history["val_loss"])
"""
_SEEDED = """
shared = keras.random.SeedGenerator(5)
class Noise(L.Layer):
    def __init__(self):
        super().__init__()
        self.own = keras.random.SeedGenerator(6)
    def call(self, v): return v + 0.1 * keras.random.normal(keras.ops.shape(v), seed=self.own)
class Drawing(Each):
    def each(self, epoch, logs):
        number = keras.random.uniform((), seed=shared) + keras.random.uniform(())
        if epoch == 4: self.model.layers[-1].bias.assign_add(number * tf.ones(3) * [1.0, 2.0, 3.0])
model = keras.Sequential([L.Input((4,)), Noise(), L.Dropout(0.3, seed=8), L.Dense(3)])
model.compile("adam", loss)
model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Drawing()])
"""
_TRACED_LOOP = """
model, optimizer, scale = simple(), keras.optimizers.Adam(0.01), 1.0
@tf.function
def step(a, b):
    with tf.GradientTape() as tape: lost = loss(b, model(a)) * scale
    optimizer.apply_gradients(zip(tape.gradient(lost, model.trainable_variables), model.trainable_variables))
for epoch in samebits.checkpoint(range(6), model, optimizer, rng):
    step(x[:32], y[:32])
    if epoch == 1: scale = 0.01
    if epoch == 5: step(x[:16], y[:16])
"""
_TRACED_METHOD = """
class Trainer:
    def __init__(self): self.model, self.optimizer, self.scale = simple(), keras.optimizers.Adam(0.01), 1.0
    @tf.function
    def step(self, a, b):
        with tf.GradientTape() as tape: lost = loss(b, self.model(a, training=True)) * self.scale
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(lost, variables), variables))
        return lost
    def train(self):
        seen = []
        for epoch in samebits.checkpoint(range(5), self, self.model, self.optimizer, rng, seen):
            for i in rng.permutation(4): seen.append(float(self.step(x[i * 16 : i * 16 + 16], y[i * 16 : i * 16 + 16])))
Trainer().train()
"""
_UNBUILT_LOOP = """
model, optimizer = keras.Sequential([L.Dense(8), L.Dense(3)]), keras.optimizers.Adam(0.01)
for _ in samebits.checkpoint(range(5), model, optimizer, rng):
    for i in rng.permutation(4):
        with tf.GradientTape() as tape: lost = loss(y[i * 16 : i * 16 + 16], model(x[i * 16 : i * 16 + 16]))
        optimizer.apply_gradients(zip(tape.gradient(lost, model.trainable_variables), model.trainable_variables))
"""

RESUMED = {
    "a loop with a method that is a graph": _TRACED_METHOD,
    "a model that a loop builds": _UNBUILT_LOOP,
    "variables and tensors of strings": _STRINGS,
    "weights that are loaded between fits": _BEST.format(path='"best.weights.h5"'),
    "a file in a temporary folder": kept("count()", _TEMPORARY, _BEST.format(path='path + ".weights.h5"')),
    "text and bytes in memory": kept(
        "[log.write(str(epoch)), held.write(b'ab'), len(log.getvalue()) + held.tell()][2]",
        "log, held = io.StringIO(), io.BytesIO()",
    ),
    "values that a callback keeps on a model": _ON_A_MODEL,
    "random data that is drawn anew": _DRAWN_ANEW,
    "averages, accumulated gradients and scaled losses": _OPTIMIZERS,
    "lists and dicts of layers made in build": _BUILT_LATE,
    "a PyDataset with a generator beside layers that draw": _ROWS,
    "callbacks of Keras": _CALLBACKS,
    "train_on_batch in a loop": _LOOP,
    "a search, and a clone of its best": _TUNED,
    "a fit from a later epoch, single batches, class weights": _FIRST_EPOCHS,
    "generators of seeds of its own": _SEEDED,
}
NOT_RESUMED = {
    "a value on a module of a library": (
        kept("[setattr(np, 'euler_gamma', np.euler_gamma + 1), np.euler_gamma][1]"),
        "numpy.euler_gamma changed during training",
    ),
    "a file that is written elsewhere": (
        kept(
            "[open(path, 'w').write(str(epoch)), epoch][1]", "path = os.path.dirname(tempfile.gettempdir()) + '/s.txt'"
        ),
        "s.txt during training, where a resumed run cannot restore it",
    ),
    "a number that the graph of a loop was traced with": (
        _TRACED_LOOP,
        "scale changed during training; a graph may have been traced with the old value",
    ),
    "a model that a callback makes and trains": (
        """
class Probing(Each):
    def each(self, epoch, logs):
        probe = simple()
        probe.fit(x, y, verbose=0)
simple().fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[Probing()])
""",
        "was created during training",
    ),
    "values of replicas": (
        kept(
            "[held.__setitem__(0, spread(lambda _: tf.ones(1))), 1.0][1]",
            "held = [None]\n"
            "spread = tf.distribute.MirroredStrategy(['CPU:0']).experimental_distribute_values_from_function",
        ),
        "PerReplica, whose state cannot be saved; keep its values in a tf.Variable",
    ),
    "a strategy for one device": (
        """
with tf.distribute.OneDeviceStrategy("/cpu:0").scope(): model = simple()
model.fit(data.shuffle(64).batch(16), epochs=3, verbose=0)
""",
        "the training is distributed by OneDeviceStrategy",
    ),
    "a schedule that counts in a graph": (
        """
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self): self.calls = 0
    def __call__(self, step):
        self.calls += 1
        return 0.01 / self.calls
model = simple()
model.compile(keras.optimizers.SGD(Schedule()), loss)
model.fit(x, y, batch_size=16, epochs=3, verbose=0)
""",
        "calls changed during training",
    ),
}
USUAL = (
    "weights that are loaded between fits",
    *("a value on a module of a library", "a number that the graph of a loop was traced with"),
)
