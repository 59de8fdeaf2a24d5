"""A script for one worker. `test_workers` trains it again with its model in the scope of a strategy."""

import os
import sys

import keras
import numpy as np
import tensorflow as tf

# Here comes the scope.
rng = np.random.default_rng(1)
x = rng.normal(size=(150, 6, 6, 1)).astype("float32")
y = rng.integers(0, 3, 150)
model = keras.Sequential(
    [
        keras.layers.RandomFlip(),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.2),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, metrics=["accuracy"])
if "loop" in sys.argv:
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True))
    gradients = tape.gradient(value, model.trainable_variables)
    model.optimizer.apply(gradients, model.trainable_variables)
else:
    model.fit(x, y, batch_size=32, epochs=3, validation_split=0.2, verbose=0)
    print("evaluated", [float(value).hex() for value in model.evaluate(x, y, verbose=0)])
    print("predicted", np.asarray(model.predict(x, verbose=0)).shape)
model.save(os.path.join(os.environ["SAMEBITS_OUTPUT"], "model.keras"))
