"""A parallel map with random numbers of TensorFlow's, stateless and not; a cache behind; augmentation of Keras's."""

import keras
import numpy as np
import tensorflow as tf

L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(96, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 96)
flip, noise = L.RandomFlip(), L.GaussianNoise(0.1)


def stateless(number, sample):
    image, label = sample
    return image + tf.random.stateless_normal([8, 8, 3], tf.stack([7, number]), stddev=0.1), label


data = (
    tf.data.Dataset.from_tensor_slices((x, y))
    .shuffle(96)
    .enumerate()
    .map(stateless, num_parallel_calls=tf.data.AUTOTUNE)
    .map(lambda image, label: (image + tf.random.normal([8, 8, 3], stddev=0.1), label), num_parallel_calls=2)
    .cache()
    .shuffle(96)
    .batch(12)
    .map(lambda image, label: (flip(noise(image, training=True), training=True), label), num_parallel_calls=2)
    .prefetch(tf.data.AUTOTUNE)
)
model = keras.Sequential([L.Input((8, 8, 3)), L.Conv2D(8, 3), L.BatchNormalization(), L.Flatten(), L.Dense(3)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(data, epochs=6, verbose=0)
