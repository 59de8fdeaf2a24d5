"""tf.data in one order, cached; gradients of several steps added up; a learning rate that a function gives."""

import keras
import numpy as np
import tensorflow as tf

L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(160, 12)).astype("float32"), rng.integers(0, 3, 160)
data = tf.data.Dataset.from_tensor_slices((x, y)).cache().shuffle(160, seed=3, reshuffle_each_iteration=False).batch(16)

model = keras.Sequential([L.Input((12,)), L.Dense(24, activation="relu"), L.GaussianDropout(0.3), L.Dense(3)])
model.compile(
    keras.optimizers.SGD(1e-2, momentum=0.9, gradient_accumulation_steps=4),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
falling = keras.callbacks.LearningRateScheduler(lambda _, rate: rate * 0.8)
model.fit(data, epochs=7, verbose=0, callbacks=[falling])
