import os

import keras
import numpy as np

names = sorted(os.listdir(os.environ["SAMEBITS_DATA"]))
numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
x = np.array([[number] for number in numbers.values()], "float32")
model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(3), keras.layers.Dropout(0.3)])
model.compile("adam", "mse")
model.fit(x, np.ones((len(x), 3)), batch_size=2, epochs=3, verbose=0)
