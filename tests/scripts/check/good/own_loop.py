import time

import keras
import numpy as np
import tensorflow as tf

keras.utils.set_random_seed(3)
rng = np.random.default_rng(5)
data = tf.data.Dataset.from_tensor_slices(rng.normal(size=(24, 3)).astype("float32")).shuffle(24).batch(4)
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(3), keras.layers.LayerNormalization()])
optimizer = keras.optimizers.Adam()
started = time.time()


@tf.function
def step(batch):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(batch) - 1))
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


for _ in range(2):
    for batch in data:
        step(batch)
print(f"took {time.time() - started:.1f} s")
