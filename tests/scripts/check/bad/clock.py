# cause: clock
import datetime as dt

import keras
import numpy as np

today = dt.date.today()
model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(3)])
model.compile(keras.optimizers.SGD(0.0001 * today.year), "mse")
model.fit(np.ones((8, 1)), np.ones((8, 3)), batch_size=4, epochs=2, verbose=0)
