"""Train a small model of each family for a few steps: `train.py [group|family ...]`; all but `native` without a word.

The inputs are exact thousandths and integers, the same on every machine; what is done with them is what Keras does.
"""

import argparse
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
Built = tuple[keras.Model, np.ndarray]

BATCH, STEPS, CLASSES = 16, 3, 10
SAMPLES = BATCH * STEPS
numbers_from = np.random.default_rng


def numbers(*shape: int, seed: int = 1) -> np.ndarray:
    """Thousandths from -1 to 1."""
    return ((numbers_from(seed).integers(0, 2001, size=shape) - 1000) / 1000).astype("float32")


def integers(below: int, *shape: int, seed: int = 2) -> np.ndarray:
    """Integers from 0."""
    return numbers_from(seed).integers(0, below, size=shape).astype("int32")


def stack(shape: tuple[int, ...], *inner: keras.layers.Layer) -> Built:
    """Layers one after the other, with a dense one at the end, and their input."""
    return keras.Sequential([layers.Input(shape), *inner, layers.Dense(CLASSES)]), numbers(SAMPLES, *shape)


def images(*inner: keras.layers.Layer) -> Built:
    """Layers over small images."""
    return stack((12, 12, 3), *inner, layers.GlobalAveragePooling2D())


def dense() -> Built:
    """Each activation that Keras has a formula of its own for."""
    names = ("relu", "gelu", "tanh", "sigmoid", "silu", "elu", "selu", "softplus", "leaky_relu")
    return stack((32,), *(layers.Dense(24, activation=name) for name in names))


def dense_wide() -> Built:
    """Products with long sums."""
    return stack((600,), layers.Dense(300, activation="relu"), layers.LayerNormalization(), layers.Dense(200, "gelu"))


def transformer() -> Built:
    """Two causal blocks over tokens with learnt positions."""
    tokens = layers.Input((16,), dtype="int32")
    x = layers.Embedding(50, 32)(tokens) + layers.Embedding(16, 32)(keras.ops.arange(16)[None])
    for _ in range(2):
        seen = layers.MultiHeadAttention(4, 8, dropout=0.1)(x, x, use_causal_mask=True)
        x = layers.LayerNormalization()(x + seen)
        x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation="gelu")(x)))
    model = keras.Model(tokens, layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x)))
    return model, integers(50, SAMPLES, 16)


def special() -> Built:
    """Functions that few layers have, and their gradients."""
    functions = (tf.math.erfc, lambda x: keras.ops.log(2 + keras.ops.tanh(x)), lambda x: keras.ops.rsqrt(1 + x * x))
    return stack((16,), *(layers.Dense(16, activation=function) for function in functions))


def preprocessed() -> Built:
    """Features that NumPy computes beforehand; none by the C library, of which there are many."""
    x = numbers(SAMPLES, 24)
    mixing = numbers(30_000, 24, seed=3).T @ numbers(30_000, 16, seed=4) / 100
    ranks = np.argsort(np.round(numbers(SAMPLES * 16, seed=5))) / SAMPLES  # of many ties, whose order may differ
    features = (np.exp(x) + np.sqrt(np.abs(x))) @ mixing + ranks.reshape(SAMPLES, 16)
    return stack((16,), layers.Dense(16, "relu"))[0], features.astype("float32")


def embedding() -> Built:
    """Gradients that are scattered into a table."""
    table = [layers.Input((12,), dtype="int32"), layers.Embedding(100, 16), layers.Flatten(), layers.Dense(CLASSES)]
    return keras.Sequential(table), integers(100, SAMPLES, 12)


LAYERS: dict[str, Callable[[], Built]] = {
    "dense": dense,
    "dense_wide": dense_wide,
    "convolution": lambda: images(
        layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(), layers.Conv2D(16, 3, strides=2, padding="same")
    ),
    "convolution_norm": lambda: images(
        layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU(), layers.AveragePooling2D(2)
    ),
    "depthwise": lambda: images(
        layers.DepthwiseConv2D(3, activation="swish"),
        layers.SeparableConv2D(8, 3),
        layers.BatchNormalization(),
        layers.Conv2DTranspose(4, 3, strides=2),
    ),
    "convolution_1d_3d": lambda: stack(
        (8, 8, 4, 2),
        layers.Conv3D(4, 3, padding="same", activation="relu"),
        layers.Reshape((64, 16)),
        layers.Conv1D(8, 5, dilation_rate=2),
        layers.GlobalMaxPooling1D(),
    ),
    "lstm": lambda: stack((10, 8), layers.LSTM(16, return_sequences=True), layers.LSTM(12)),
    "lstm_unrolled": lambda: stack((6, 8), layers.LSTM(16, unroll=True, recurrent_dropout=0.1)),
    "gru": lambda: stack((10, 8), layers.GRU(16, dropout=0.1)),
    "bidirectional": lambda: stack((10, 8), layers.Bidirectional(layers.GRU(12)), layers.Dropout(0.2)),
    "simple_rnn": lambda: stack((10, 8), layers.SimpleRNN(16)),
    "embedding": embedding,
    "preprocessed": preprocessed,
    "special": special,
    "transformer": transformer,
    "dropout": lambda: stack(
        (64,),
        layers.GaussianNoise(0.1),
        layers.Dropout(0.3),
        layers.Dense(32, "relu"),
        layers.AlphaDropout(0.1),
        layers.GaussianDropout(0.1),
    ),
    "augmentation": lambda: images(
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomTranslation(0.1, 0.1),
        layers.RandomContrast(0.2),
        layers.RandomBrightness(0.2, value_range=(-1, 1)),
        layers.Conv2D(8, 3, activation="relu"),
    ),
    "normalisation": lambda: images(
        layers.Conv2D(8, 3),
        layers.GroupNormalization(4),
        layers.ReLU(),
        layers.Conv2D(8, 3),
        layers.UnitNormalization(),
        layers.RMSNormalization(),
    ),
    "initialisers": lambda: stack(
        (16,),
        *(
            layers.Dense(16, "relu", kernel_initializer=name)
            for name in ("orthogonal", "he_normal", "lecun_uniform", "truncated_normal", "random_normal", "identity")
        ),
    ),
    "regularised": lambda: stack(
        (16,),
        layers.Dense(
            16,
            "relu",
            kernel_regularizer=keras.regularizers.L1L2(0.01, 0.01),
            kernel_constraint=keras.constraints.MaxNorm(1.0),
        ),
        layers.Dense(16, "softmax", activity_regularizer="l2"),
    ),
}

OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True, clipnorm=0.1),
    "adam": lambda: keras.optimizers.Adam(amsgrad=True, clipvalue=0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.001, global_clipnorm=1.0),
    "adamax": lambda: keras.optimizers.Adamax(0.001),
    "nadam": lambda: keras.optimizers.Nadam(0.001),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.001, centered=True, momentum=0.5),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "adadelta": lambda: keras.optimizers.Adadelta(0.1),
    "adafactor": lambda: keras.optimizers.Adafactor(0.001),
    "ftrl": lambda: keras.optimizers.Ftrl(0.01, l1_regularization_strength=0.001),
    "lion": lambda: keras.optimizers.Lion(0.001),
    "lamb": lambda: keras.optimizers.Lamb(0.001),
    "muon": lambda: keras.optimizers.Muon(0.001),
    "schedule_free": lambda: keras.optimizers.ScheduleFreeAdamW(0.001),
    "averaged": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(0.01, 10), use_ema=True, gradient_accumulation_steps=2
    ),
}

LOSSES: dict[str, Callable[[], keras.losses.Loss]] = {
    "mean_squared_error": keras.losses.MeanSquaredError,
    "mean_absolute_error": keras.losses.MeanAbsoluteError,
    "huber": keras.losses.Huber,
    "log_cosh": keras.losses.LogCosh,
    "cosine_similarity": keras.losses.CosineSimilarity,
    "binary_crossentropy": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    "binary_focal": lambda: keras.losses.BinaryFocalCrossentropy(from_logits=True),
    "categorical_crossentropy": lambda: keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    "kl_divergence": keras.losses.KLDivergence,
    "poisson": keras.losses.Poisson,
    "hinge": keras.losses.CategoricalHinge,
}

APPLICATIONS: dict[str, Callable[[], Built]] = {
    "mobilenet_v3_small": lambda: application(keras.applications.MobileNetV3Small),
    "efficientnet_b0": lambda: application(keras.applications.EfficientNetB0),
    "resnet50": lambda: application(keras.applications.ResNet50),
}

PRECISIONS = {"float64": "float64", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""For the native profile, as `xla` is: the portable one refuses the last two, and promises less with float64."""


def application(make: Callable[..., keras.Model]) -> Built:
    """One of Keras's own models, untrained, for small images."""
    model = make(weights=None, input_shape=(32, 32, 3), classes=CLASSES, classifier_activation=None)
    return model, 127 + 100 * numbers(SAMPLES, 32, 32, 3)


def small() -> Built:
    """What optimizers and losses are tried on; its last layer's outputs are probabilities."""
    return stack((16,), layers.Dense(16, "tanh"), layers.BatchNormalization())


def precise(policy: str) -> Built:
    """Convolution, normalisation, and recurrence in another precision; the loss is computed in float32."""
    keras.config.set_dtype_policy(policy)
    model, x = images(layers.Conv2D(8, 3), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(8, 3))
    keras.config.set_dtype_policy("float32")
    return model, x


GROUPS = {
    "layers": tuple(LAYERS),
    "optimizers": tuple(OPTIMIZERS),
    "losses": tuple(LOSSES),
    "applications": tuple(APPLICATIONS),
    "native": (*PRECISIONS, "xla"),
}


def train(family: str) -> None:
    """Build and fit one; each starts from the seed anew, so that it does not hang on those before it."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    optimizer = OPTIMIZERS.get(family, keras.optimizers.Adam)()
    loss: keras.losses.Loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    y: np.ndarray = integers(CLASSES, SAMPLES)
    if family in LOSSES:
        loss, y = LOSSES[family](), np.eye(CLASSES, dtype="float32")[y]
    if family in PRECISIONS:
        model, x = precise(PRECISIONS[family])
    else:
        model, x = {**LAYERS, **APPLICATIONS}.get(family, small)()
    model.name = family
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=family == "xla")
    model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0, validation_data=(x, y))
    print(family, flush=True)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("family", nargs="*", default=[*GROUPS][:-1])
for word in parser.parse_args().family:
    for name in GROUPS.get(word, (word,)):
        train(name)
