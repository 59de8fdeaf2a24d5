"""A loop of the script's own: two models, two optimizers, a step in a graph, noise from a generator of NumPy's."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import samebits

L = keras.layers
rng = np.random.default_rng(1)
x = rng.normal(size=(96, 6)).astype("float32")
data = tf.data.Dataset.from_tensor_slices(x).shuffle(96).batch(16, drop_remainder=True)
maker = keras.Sequential([L.Input((4,)), L.Dense(16, activation="relu"), L.Dropout(0.2), L.Dense(6)])
judge = keras.Sequential([L.Input((6,)), L.Dense(16, activation="relu"), L.Dropout(0.2), L.Dense(1)])
making, judging = keras.optimizers.Adam(1e-3), keras.optimizers.SGD(1e-2, momentum=0.9)
entropy = keras.losses.BinaryCrossentropy(from_logits=True)
losses = []


@tf.function
def step(real, noise):
    with tf.GradientTape() as one, tf.GradientTape() as other:
        made = maker(noise, training=True)
        said = judge(made, training=True)
        lost = entropy(tf.ones_like(said), said)
        seen = entropy(tf.ones([16, 1]), judge(real, training=True)) + entropy(tf.zeros_like(said), said)
    making.apply(one.gradient(lost, maker.trainable_variables), maker.trainable_variables)
    judging.apply(other.gradient(seen, judge.trainable_variables), judge.trainable_variables)
    return lost, seen


for epoch in samebits.checkpoint(range(8), maker, judge, making, judging, data, rng, losses):
    for real in data:
        lost, seen = step(real, rng.normal(size=(16, 4)).astype("float32"))
    losses.append([epoch, float(lost), float(seen)])
(Path(os.environ["SAMEBITS_OUTPUT"]) / "losses.json").write_text(json.dumps(losses))
