"""The global random generators of Python, NumPy, TensorFlow and Keras."""

import random
from typing import Any

from samebits.runner.compat import cpython_private, keras_private, numpy_private, tensorflow_random


def generators(*, wanted: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Each generator by its name in checkpoints, in a form that `capture` and `restore` know.

    Keras creates its generator at the first draw, which draws from Python's. So it is created here only if `wanted`
    names it.
    """
    found: dict[str, Any] = {}
    # Creating it would itself draw a number.
    if KERAS in wanted or keras_private.has_global_seed_generator():
        found[KERAS] = keras_private.global_seed_generator()
    of_tensorflow = tensorflow_random.global_generator()
    if of_tensorflow is not None:
        found["random generator of TensorFlow"] = of_tensorflow.state
    found["seeds of TensorFlow"] = tensorflow_random.eager_seed_generator()
    found["random generator of NumPy"] = numpy_private.global_random_state()
    found["random generator of Python"] = cpython_private.global_random()
    return found


KERAS = "seed generator of Keras"


def generator_kinds() -> tuple[type, ...]:
    """The types of random generators that a script may create, except Keras's SeedGenerator."""
    import numpy as np
    import tensorflow as tf

    return (random.Random, np.random.Generator, np.random.RandomState, tf.random.Generator)
