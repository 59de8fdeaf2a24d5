"""Stands for Keras's example on reproducibility: a dataset that Keras downloads, tf.data in parallel, dropout, fit."""

import json

import keras
import tensorflow as tf

keras.utils.set_random_seed(812)
tf.config.experimental.enable_op_determinism()
(x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()


def prepare(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale and enlarge one batch."""
    return tf.image.resize(tf.cast(image, tf.float32)[..., None] / 255.0, (32, 32)), label


def batches(data: tf.data.Dataset) -> tf.data.Dataset:
    """Prepared in parallel, and ahead of the training."""
    return data.batch(32).map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


layers = keras.layers
model = keras.Sequential(
    [
        layers.Conv2D(8, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Dropout(0.2),
        layers.Conv2D(8, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
train = batches(tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)))
test = batches(tf.data.Dataset.from_tensor_slices((x_test, y_test)))
history = model.fit(train, epochs=2, validation_data=test, verbose=2).history
with open("history.json", "w", encoding="utf-8") as file:
    json.dump(history, file)
