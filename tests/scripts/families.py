"""Train one small model of a family for a few steps: `families.py mlp|conv|lstm|attention`."""

import sys

import keras
import numpy as np

layers = keras.layers
rng = np.random.default_rng(1)


def numbers(*shape: int) -> np.ndarray:
    """Exact thousandths, the same on every machine."""
    return ((rng.integers(0, 2001, size=shape) - 1000) / 1000).astype("float32")


def attention() -> tuple[keras.Model, np.ndarray]:
    """A transformer's block over numbers."""
    inputs = keras.Input((16, 8))
    x = layers.Dense(32)(inputs)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8, dropout=0.1)(x, x, use_causal_mask=True))
    x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation="gelu")(x)))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x))), numbers(512, 16, 8)


def sequential(shape: tuple[int, ...], *inner: keras.layers.Layer) -> tuple[keras.Model, np.ndarray]:
    """A stack of layers and its data."""
    return keras.Sequential([layers.Input(shape), *inner, layers.Dense(10)]), numbers(512, *shape)


FAMILIES = {
    "mlp": lambda: sequential((64,), layers.Dense(128, activation="relu"), layers.Dropout(0.2)),
    "conv": lambda: sequential(
        (16, 16, 3),
        layers.RandomFlip("horizontal"),
        layers.Conv2D(32, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(32, 3, strides=2, activation="relu"),
        layers.GlobalAveragePooling2D(),
    ),
    "lstm": lambda: sequential((24, 16), layers.LSTM(64, return_sequences=True), layers.Bidirectional(layers.GRU(32))),
    "attention": attention,
}

model, x = FAMILIES[sys.argv[1]]()
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(x, rng.integers(0, 10, len(x)), epochs=3, batch_size=64, verbose=2)
