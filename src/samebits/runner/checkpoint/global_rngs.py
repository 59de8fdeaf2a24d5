"""The random generators that belong to nobody: those of Python, NumPy, TensorFlow and Keras."""

import random
from typing import Any

from samebits.runner.compat import cpython_private, keras_private, numpy_private, tensorflow_private


def generators(*, wanted: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Each by a name, in a form that `reach` takes out and `putting_back` puts back.

    Keras makes its own when it is first drawn from, which draws from Python's; it is made here only if it is `wanted`.
    """
    found: dict[str, Any] = {}
    if KERAS in wanted or keras_private.has_global_seed_generator():
        found[KERAS] = keras_private.global_seed_generator()
    of_tensorflow = tensorflow_private.global_generator()
    if of_tensorflow is not None:
        found["random generator of TensorFlow"] = of_tensorflow.state
    found["seeds of TensorFlow"] = tensorflow_private.eager_seed_generator()
    found["random generator of NumPy"] = numpy_private.global_random_state()
    found["random generator of Python"] = cpython_private.global_random()
    return found


KERAS = "seed generator of Keras"


def generator_kinds() -> tuple[type, ...]:
    """Random generators that a script may hold, but Keras's."""
    import numpy as np
    import tensorflow as tf

    return (random.Random, np.random.Generator, np.random.RandomState, tf.random.Generator)
