"""Train four models in a known environment, and print samples per second of each: `train_profiles.py [PART...]`.

Each PART is a step from TensorFlow's defaults: `determinism`, `sums` (in a fixed order), then those of the portable
profile that no environment variable holds: `rewrites` (Grappler's that are switched off) and `exact` operations.
"""

import os
import sys
import time

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
parts = set(sys.argv[1:])
threads = int(os.environ["TF_NUM_INTRAOP_THREADS"])
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)
if "determinism" in parts:
    tf.config.experimental.enable_op_determinism()
if parts & {"sums", "rewrites", "exact"}:
    from samebits.runner.compat.patches import Patches
    from samebits.runner.determinism import exact_ops as exact
    from samebits.runner.determinism.ordered_sums import order_sums

    if "sums" in parts:
        order_sums(Patches())
    if "rewrites" in parts:
        exact.switch_rewrites_off()
    if "exact" in parts:
        exact.install_exact_ops(Patches())
keras.utils.set_random_seed(0)
rng = np.random.default_rng(1)


def convolution() -> tuple[keras.Model, np.ndarray]:
    """Convolutions with normalisation, as in small image classifiers."""
    inner = [
        layer
        for filters in (32, 64)
        for layer in (layers.Conv2D(filters, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU())
    ]
    model = keras.Sequential([layers.Input((28, 28, 3)), *inner, layers.GlobalAveragePooling2D(), layers.Dense(10)])
    return model, rng.random((1024, 28, 28, 3), dtype="float32")


def recurrent() -> tuple[keras.Model, np.ndarray]:
    """Two LSTM layers."""
    stack = [layers.LSTM(128, return_sequences=True), layers.LSTM(64), layers.Dense(10)]
    return keras.Sequential([layers.Input((24, 32)), *stack]), rng.random((2048, 24, 32), dtype="float32")


def transformer() -> tuple[keras.Model, np.ndarray]:
    """Two blocks of attention with gelu."""
    inputs = layers.Input((32, 64))
    x = inputs
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 16, dropout=0.1)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(64)(layers.Dense(256, activation="gelu")(x)))
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))
    return model, rng.random((1024, 32, 64), dtype="float32")


def dense() -> tuple[keras.Model, np.ndarray]:
    """Three dense layers."""
    stack = [layers.Dense(512, "relu"), layers.Dense(256, "relu"), layers.Dense(10)]
    return keras.Sequential([layers.Input((784,)), *stack]), rng.random((8192, 784), dtype="float32")


for build in (convolution, recurrent, transformer, dense):
    model, x = build()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    y = rng.integers(0, 10, len(x))
    model.fit(x, y, batch_size=64, epochs=1, verbose=0)
    started = time.perf_counter()
    model.fit(x, y, batch_size=64, epochs=4, verbose=0)
    print(f"{build.__name__} {4 * len(x) / (time.perf_counter() - started):.1f}", flush=True)
