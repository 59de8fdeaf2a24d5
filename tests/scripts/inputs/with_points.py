"""Trains on a data set that TensorFlow Datasets prepares."""

import keras
import points.points_dataset_builder  # registers it
import tensorflow_datasets as tfds

assert points is not None
data = tfds.load("points", split="train", as_supervised=True, shuffle_files=True)
model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
model.compile("sgd", "binary_crossentropy")
model.fit(data.shuffle(100).batch(8), epochs=2, verbose=0)
print("rows", len(data))
