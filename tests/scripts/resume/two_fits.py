"""Two fits of one model, the first with a part of it frozen; what lies between them is done again."""

import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(128, 12)).astype("float32"), rng.integers(0, 3, 128)
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(128).batch(16)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

base = keras.Sequential([L.Input((12,)), L.Dense(16, activation="relu"), L.BatchNormalization()])
model = keras.Sequential([L.Input((12,)), base, L.Dropout(0.3), L.Dense(3)])
base.trainable = False
model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
head = model.fit(data, epochs=4, verbose=0)
between = model.evaluate(x, y, verbose=0, return_dict=True)
base.trainable = True
model.compile(keras.optimizers.SGD(1e-2, momentum=0.9), loss)
stop = keras.callbacks.EarlyStopping(monitor="loss", patience=1, min_delta=0.02)
whole = model.fit(data, epochs=6, verbose=0, callbacks=[stop])
(Path(os.environ["SAMEBITS_OUTPUT"]) / "told.txt").write_text(repr([head.history, between, whole.history, stop.best]))
