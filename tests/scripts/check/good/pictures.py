import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

x = np.linspace(0, 1, 12 * 8 * 8 * 3, dtype="float32").reshape(12, 8, 8, 3)
data = tf.data.Dataset.from_tensor_slices((x, np.arange(12) % 2)).shuffle(12, seed=3).batch(4)
data = data.map(lambda image, label: (tf.image.random_flip_left_right(image, seed=2), label))
model = keras.Sequential(
    [
        keras.layers.Input((8, 8, 3)),
        keras.layers.RandomRotation(0.1),
        keras.layers.Conv2D(4, 3),
        keras.layers.BatchNormalization(),
        keras.layers.GlobalMaxPooling2D(),
        keras.layers.Dense(2),
    ]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
history = model.fit(data, epochs=1, verbose=0)
Path(os.environ["SAMEBITS_OUTPUT"], "seen.txt").write_text(",".join(sorted({"b", "a", "c"})))
