"""A small training that takes only the GPU memory that it needs, so that two of them fit beside each other."""

import keras
import numpy as np
import tensorflow as tf

for gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(gpu, enable=True)
numbers = np.random.default_rng(1)
x = (numbers.integers(0, 2001, (256, 16, 16, 3)) / 1000 - 1).astype("float32")
model = keras.Sequential(
    [
        keras.layers.Input((16, 16, 3)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, numbers.integers(0, 10, 256), batch_size=32, epochs=20, verbose=0)
