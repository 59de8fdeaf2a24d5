"""Augmentation layers in the model, several steps in one execution, and no length of the data known beforehand."""

import keras
import numpy as np
import tensorflow as tf

L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(144, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 144)
data = tf.data.Dataset.from_tensor_slices((x, y)).filter(lambda _, label: label < 3).shuffle(144).batch(12)
model = keras.Sequential(
    [
        L.Input((8, 8, 3)),
        L.RandomFlip(),
        L.RandomRotation(0.1),
        L.RandomTranslation(0.1, 0.1),
        L.Conv2D(8, 3),
        L.BatchNormalization(),
        L.SpatialDropout2D(0.2),
        L.Flatten(),
        L.Dense(3),
    ]
)
model.compile(
    "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"], steps_per_execution=3
)
model.fit(data, epochs=6, verbose=0)
