# fails: Timestamp
import keras
import numpy as np
import tensorflow as tf


class Faded(keras.layers.Layer):
    def call(self, inputs):
        return inputs * tf.cast(tf.timestamp() > 0, "float32")


model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(3), Faded(name="faded")])
model.compile("sgd", "mse")
model.fit(np.ones((8, 3)), np.ones((8, 3)), batch_size=4, epochs=2, verbose=0)
