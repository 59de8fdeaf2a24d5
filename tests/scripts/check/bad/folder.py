# cause: directory order
import os

import keras
import numpy as np
import tensorflow as tf

listed = tf.io.gfile.listdir
names = listed(os.environ["SAMEBITS_DATA"])
x = np.array([[float(ord(name[0]))] for name in names], "float32")
model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(3)])
model.compile("sgd", "mse")
model.fit(x, np.ones((len(x), 3)), batch_size=2, epochs=2, verbose=0, shuffle=False)
