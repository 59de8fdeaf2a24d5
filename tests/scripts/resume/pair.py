"""A model with a step of its own in `fit`: two networks, two optimizers that are built by their first step."""

import keras
import numpy as np
import tensorflow as tf

L = keras.layers


class Pair(keras.Model):
    def __init__(self):
        super().__init__()
        self.maker = keras.Sequential([L.Input((4,)), L.Dense(16, activation="relu"), L.Dense(6)])
        self.judge = keras.Sequential([L.Input((6,)), L.Dense(16, activation="relu"), L.Dropout(0.2), L.Dense(1)])
        self.noise = keras.random.SeedGenerator(3)
        self.making, self.judging = keras.optimizers.Adam(1e-3), keras.optimizers.RMSprop(1e-3)
        self.lost, self.seen = keras.metrics.Mean(name="lost"), keras.metrics.Mean(name="seen")
        self.entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @property
    def metrics(self):
        return [self.lost, self.seen]

    def train_step(self, real):
        with tf.GradientTape(persistent=True) as tape:
            said = self.judge(self.maker(keras.random.normal((16, 4), seed=self.noise), training=True), training=True)
            lost = self.entropy(tf.ones_like(said), said)
            seen = self.entropy(tf.ones((16, 1)), self.judge(real, training=True)) + self.entropy(
                tf.zeros_like(said), said
            )
        for part, optimizer, value in ((self.maker, self.making, lost), (self.judge, self.judging, seen)):
            optimizer.apply(tape.gradient(value, part.trainable_variables), part.trainable_variables)
        self.lost.update_state(lost)
        self.seen.update_state(seen)
        return {metric.name: metric.result() for metric in self.metrics}


x = np.random.default_rng(1).normal(size=(96, 6)).astype("float32")
model = Pair()
model.compile()
model.fit(tf.data.Dataset.from_tensor_slices(x).shuffle(96).batch(16, drop_remainder=True), epochs=6, verbose=0)
