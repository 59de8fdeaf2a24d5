# cause: none of the perturbations; the script is nondeterministic on its own
import threading

import keras
import numpy as np

rows, started = [], threading.Barrier(8)


def read(number):
    started.wait()
    for row in range(400):
        rows.append([float(number), float(sum(range(20_000)) > row)])


readers = [threading.Thread(target=read, args=(number,)) for number in range(8)]
for reader in readers:
    reader.start()
for reader in readers:
    reader.join()
model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3)])
model.compile("sgd", "mse")
model.fit(np.array(rows), np.ones((len(rows), 3)), batch_size=800, epochs=2, verbose=0, shuffle=False)
