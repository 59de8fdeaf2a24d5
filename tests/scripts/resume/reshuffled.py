"""tf.data in a new order each epoch, for training and validation; a moving average; a learning rate that falls."""

import keras
import numpy as np
import tensorflow as tf

L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(160, 12)).astype("float32"), rng.integers(0, 3, 160)
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(160).batch(16).prefetch(2)
held_out = tf.data.Dataset.from_tensor_slices((x[:40] * 1.1, y[:40])).shuffle(40).batch(16)

model = keras.Sequential([L.Input((12,)), L.Dense(24, activation="relu"), L.Dropout(0.3), L.Dense(3)])
model.compile(
    keras.optimizers.Adam(1e-2, use_ema=True, ema_overwrite_frequency=7),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(
    data,
    epochs=7,
    verbose=0,
    validation_data=held_out,
    callbacks=[keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=0.05)],
)
