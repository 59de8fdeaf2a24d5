"""The random generators that belong to nobody: those of Python, NumPy, TensorFlow and Keras."""

import random
from typing import Any


def generators(*, wanted: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Each by a name, in a form that `reach` takes out and `putting_back` puts back.

    Keras makes its own when it is first drawn from, which draws from Python's; it is made here only if it is `wanted`.
    """
    import numpy as np
    from keras.src.backend.common import global_state
    from keras.src.random.seed_generator import global_seed_generator
    from tensorflow.python.eager import context
    from tensorflow.python.ops import stateful_random_ops

    found: dict[str, Any] = {}
    if KERAS in wanted or global_state.get_global_attribute("global_seed_generator") is not None:
        found[KERAS] = global_seed_generator()
    if stateful_random_ops.global_generator is not None:
        found["random generator of TensorFlow"] = stateful_random_ops.global_generator.state
    found["seeds of TensorFlow"] = context.context()._rng  # noqa: SLF001  for operations outside of graphs
    found["random generator of NumPy"] = np.random.mtrand._rand  # noqa: SLF001
    found["random generator of Python"] = random._inst  # noqa: SLF001
    return found


KERAS = "seed generator of Keras"


def generator_kinds() -> tuple[type, ...]:
    """Random generators that a script may hold, but Keras's."""
    import numpy as np
    import tensorflow as tf

    return (random.Random, np.random.Generator, np.random.RandomState, tf.random.Generator)
