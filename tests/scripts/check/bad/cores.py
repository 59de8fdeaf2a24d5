# cause: cores
import os

import keras
import numpy as np

model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(3)])
model.compile("sgd", "mse")
model.fit(np.arange(24.0).reshape(24, 1), np.ones((24, 3)), batch_size=2 * os.cpu_count(), epochs=2, verbose=0)
