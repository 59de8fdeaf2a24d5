# cause: hash seed
import keras
import numpy as np


def words():
    return {"cat", "dog", "owl", "fox", "hen", "cow", "ant", "bee"}


numbers = {word: number for number, word in enumerate(words())}
x = np.array([[numbers["cat"], numbers["dog"]]] * 8, "float32")
model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3)])
model.compile("sgd", "mse")
model.fit(x, np.ones((8, 3)), batch_size=4, epochs=2, verbose=0)
