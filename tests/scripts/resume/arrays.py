"""Arrays in Keras's own order; noise, dropout, normalization; a schedule, a log, and a list that a callback fills."""

import os
from pathlib import Path

import keras
import numpy as np

L = keras.layers
rng = np.random.default_rng(1)
x, y = rng.normal(size=(256, 12)).astype("float32"), rng.integers(0, 3, 256)
out = Path(os.environ["SAMEBITS_OUTPUT"])
lines = open(out / "lines.txt", "w")  # noqa: SIM115  it stays open, and is not flushed
seen = []

model = keras.Sequential(
    [L.Input((12,)), L.Dense(24), L.BatchNormalization(), L.ReLU(), L.Dropout(0.3), L.GaussianNoise(0.1), L.Dense(3)]
)
adam = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, 64))
model.compile(adam, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(
    x,
    y,
    batch_size=16,
    epochs=8,
    verbose=0,
    validation_split=0.25,
    callbacks=[
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, restore_best_weights=True),
        keras.callbacks.CSVLogger(out / "log.csv"),
        keras.callbacks.ModelCheckpoint(out / "best.weights.h5", save_best_only=True, save_weights_only=True),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: (seen.append(logs["loss"]), lines.write(f"{epoch} {np.random.random()}\n"))
        ),
    ],
)
lines.write(repr(seen))
lines.close()
