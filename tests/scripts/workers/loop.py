"""A custom loop by several workers, as TensorFlow's tutorial has it; `rounds` puts it into `samebits.checkpoint`."""

import json
import os
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import samebits

told = sys.argv[1:]
index = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=1 << 20)
strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)

BATCH = 24
rng = np.random.default_rng(1)
x = rng.normal(size=(96, 5)).astype("float32")
y = rng.integers(0, 3, 96)
data = strategy.experimental_distribute_dataset(
    tf.data.Dataset.from_tensor_slices((x, y)).shuffle(96, seed=3).batch(BATCH)
)

with strategy.scope():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    losses = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)


def step(batch: Any) -> Any:
    features, labels = batch
    with tf.GradientTape() as tape:
        each = losses(labels, model(features, training=True))
        loss = tf.nn.compute_average_loss(each, global_batch_size=BATCH)
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return loss


@tf.function  # type: ignore[untyped-decorator]
def train(batch: Any) -> Any:
    return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(step, args=(batch,)), axis=None)


rounds = samebits.checkpoint(range(3), model, optimizer) if "rounds" in told else range(3)
for number in rounds:
    loss = sum(float(train(batch)) for batch in data)
    print(f"round {number}: {loss:.6f}")
    if "perturb" in told and number == 1 and index == 1:
        model.layers[0].kernel.value.values[0].assign_add(tf.fill((5, 8), 1e-7))
