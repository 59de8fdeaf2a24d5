"""A pipeline without an end, of which every epoch takes some steps."""

import keras
import numpy as np
import tensorflow as tf

L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(100, 12)).astype("float32"), rng.integers(0, 3, 100)
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64).batch(16).repeat().prefetch(2)
model = keras.Sequential([L.Input((12,)), L.Dense(24, activation="relu"), L.Dropout(0.3), L.Dense(3)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(data, steps_per_epoch=10, epochs=6, verbose=0)
