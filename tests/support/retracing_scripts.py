"""Scripts whose graphs depend on what was traced before: for which inputs, in which order, with which Python values.

`PREFACE` of `test_resumed_scripts` stands before each.
"""

_SIZES = """
model = keras.Sequential([L.Input((None, None, 1)), L.Conv2D(4, 3, activation="relu", padding="same"),
                          L.GlobalAveragePooling2D(), L.Dense(3)])
model.compile(keras.optimizers.SGD(0.1), loss)
held = rng.normal(size=(20, 9, 9, 1))
def images(size):
    return rng.normal(size=(48, size, size, 1)).astype("float32")
class Predicting(Each):
    def each(self, epoch, logs):
        if epoch == 1: seen.append(self.model.predict(held, batch_size=8, verbose=0).sum())
seen = []
for size in (11, 16, 11):
    seen += model.fit(images(size), y[:48], batch_size=16, epochs=6, verbose=0, callbacks=[Predicting()],
                      validation_data=(images(7), y[:48])).history["val_loss"]
    seen.append(model.evaluate(images(13), y[:48], verbose=0))
    seen += model.train_on_batch(images(10)[:5], y[:5], return_dict=True).values()
np.save(OUT + "/seen.npy", seen)
"""
_BACK_TO_A_SIZE = """
model = keras.Sequential([L.Input((None, None, 1)), L.Conv2D(4, 3, activation="relu", padding="same"),
                          L.GlobalAveragePooling2D(), L.Dense(3)])
model.compile(keras.optimizers.SGD(0.1), loss)
for size, epochs in ((11, 1), (16, 6), (11, 12)):
    images = rng.normal(size=(48, size, size, 1)).astype("float32")
    model.fit(images, y[:48], batch_size=16, epochs=epochs, verbose=0)
"""
"""Killed in the second fit: the third one uses the graph of the first, not the one for any size."""
_SIZES_OF_A_LOOP = """
del rng
model = keras.Sequential([L.Input((None, 3)), L.GRU(6, return_sequences=True), L.GlobalAveragePooling1D(), L.Dense(3)])
model.compile(keras.optimizers.Adam(0.01), loss)
for epoch in samebits.checkpoint(range(6), model, model.optimizer):
    length = (7, 8, 7, 9, 7, 8)[epoch]
    model.train_on_batch(np.random.default_rng(epoch).normal(size=(40, length, 3)).astype("float32"), y[:40])
"""
_IN_A_CALLBACK = """
class Soft(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.temperature = 4.0
        self.kept = []
    @tf.function
    def soft(self, logits): return tf.reduce_sum(tf.nn.softmax(logits / self.temperature) ** 2)
    def on_epoch_end(self, epoch, logs=None):
        {change}
soft = Soft()
simple().fit(x, y, batch_size=16, epochs=6, verbose=0, callbacks=[soft])
np.save(OUT + "/kept.npy", soft.kept)
"""
_IN_CALLBACKS = """
class Soft(keras.callbacks.Callback):
    def __init__(self, temperature):
        super().__init__()
        self.temperature, self.kept = temperature, []
    @tf.function
    def soft(self, logits): return tf.reduce_sum(tf.nn.softmax(logits / self.temperature) ** 2)
    def on_epoch_end(self, epoch, logs=None):
        if epoch % 2: self.kept.append(float(self.soft(self.model(x))))
for fold in range(3):
    soft, other = Soft(1.0 + fold), Soft(4.0 + fold)
    simple().fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[soft, other])
    np.save(OUT + f"/kept{fold}.npy", soft.kept + other.kept)
"""
_CHANGES = """self.temperature *= 0.8
        if epoch in (1, 4): self.kept.append(float(self.soft(self.model(x))))"""
_CHANGES_AND_BACK = """if epoch == 5: self.temperature = 2.0
        if epoch == 5: self.kept.append(float(self.soft(self.model(x))))
        self.temperature = 4.0
    def on_train_batch_end(self, batch, logs=None):
        if not self.kept: self.kept.append(float(self.soft(self.model(x))))"""
_REMAKES = """
        @tf.function
        def soft(logits): return tf.reduce_sum(logits * epoch / self.temperature)
        self.temperature *= 0.8
        self.kept.append(float(soft(self.model(x))))"""

RESUMED = {
    "back to the images of an earlier fit": _BACK_TO_A_SIZE,
    "fits, validation and single batches of several sizes": _SIZES,
    "batches of several lengths in a loop": _SIZES_OF_A_LOOP,
    "graphs of callbacks that hold other numbers": _IN_CALLBACKS,
    "a graph that a callback makes in each epoch": _IN_A_CALLBACK.format(change=_REMAKES),
}
NOT_RESUMED = {
    "a number that the graph of a callback was traced with": (
        _IN_A_CALLBACK.format(change=_CHANGES),
        "Soft.temperature changed during training; a graph may have been traced with the old value",
    ),
    "a number that is another one when a resumed run traces": (
        _IN_A_CALLBACK.format(change=_CHANGES_AND_BACK),
        "Soft.temperature changed during training; a graph may have been traced with the old value",
    ),
}
