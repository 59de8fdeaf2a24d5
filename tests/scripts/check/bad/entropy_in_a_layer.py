# cause: none of the perturbations; the script is nondeterministic on its own
import importlib

import keras
import numpy as np
import tensorflow as tf

entropy = importlib.import_module("o" + "s")


class Noise(keras.layers.Layer):
    def call(self, inputs):
        seed = tf.py_function(lambda: int.from_bytes(entropy.urandom(3), "big"), [], tf.int32)
        return inputs + tf.random.stateless_uniform([3], seed=[seed, seed])


model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(3), Noise()])
model.compile("sgd", "mse")
model.fit(np.ones((8, 3)), np.ones((8, 3)), batch_size=4, epochs=2, verbose=0)
