# cause: none of the perturbations; the script is nondeterministic on its own
import keras
import numpy as np

things = sorted((np.full(3, number, "float32") for number in range(40)), key=id)
places = [float(id(thing) % 65_536) for thing in things]
model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(3)])
model.compile("sgd", "mse")
model.fit(np.array(places)[:, None] / 65_536, np.stack(things), batch_size=8, epochs=2, verbose=0, shuffle=False)
