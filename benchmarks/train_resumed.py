"""A model of 10 million parameters with Adam, killed in its fourth epoch the first time."""

import os
import signal
import time
from pathlib import Path

import keras
import numpy as np

x = np.random.default_rng(1).normal(size=(64, 2200)).astype("float32")
model = keras.Sequential([keras.Input((2200,)), *(keras.layers.Dense(2200) for _ in range(2)), keras.layers.Dense(1)])
model.compile("adam", "mse")


class Epochs(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Prints the seconds of an epoch; ends the process where no run was resumed yet."""

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002  Keras names them
        """Die in the fourth epoch of the first run."""
        runs = Path(os.environ["SAMEBITS_OUTPUT"]).parents[1]
        if epoch == 3 and len(list(runs.glob("*/record.json"))) == 1:
            time.sleep(3)
            os.kill(os.getpid(), signal.SIGKILL)
        self.begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        """Print the seconds."""
        print(f"epoch {time.perf_counter() - self.begun:.2f}", flush=True)


model.fit(x, x[:, :1], batch_size=2, epochs=4, verbose=0, callbacks=[Epochs()])
