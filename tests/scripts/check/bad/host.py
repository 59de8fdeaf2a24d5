# cause: host name
import zlib
from platform import node

import keras
import numpy as np

keras.utils.set_random_seed(zlib.crc32(node().encode()))
model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(3)])
model.compile("sgd", "mse")
model.fit(np.ones((8, 1)), np.ones((8, 3)), batch_size=4, epochs=2, verbose=0)
