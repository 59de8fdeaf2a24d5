"""The global random generators of Python, NumPy, TensorFlow and Keras, and settings that a script may change."""

import builtins
import os
import random
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

from samebits.core.errors import shorten
from samebits.core.jsonio import differing_names
from samebits.runner.checkpoint.code_inspection import is_ours
from samebits.runner.checkpoint.encoding import UncapturableError
from samebits.runner.compat import cpython_private, keras_private, numpy_private, tensorflow_private


def generators(*, wanted: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Each generator by its name in checkpoints, in a form that `capture` and `restore` know.

    Keras creates its generator at the first draw, which draws from Python's. So it is created here only if `wanted`
    names it.
    """
    found: dict[str, Any] = {}
    # Creating it would itself draw a number.
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
    """The types of random generators that a script may create, except Keras's SeedGenerator."""
    import numpy as np
    import tensorflow as tf

    return (random.Random, np.random.Generator, np.random.RandomState, tf.random.Generator)


def process_settings(code: str) -> dict[str, object]:
    """What a script can change in the process, and no checkpoint holds: variables, settings, values of libraries.

    `code` is the folder of the script's modules, which are captured.
    """
    import keras

    chosen = {
        "floatx of Keras": keras.config.floatx(),
        "epsilon of Keras": keras.config.epsilon(),
        "image data format of Keras": keras.config.image_data_format(),
        "dtype policy of Keras": keras.config.dtype_policy().name,
    } | dict(_values_in_libraries(code))
    return {f"the environment variable {name}": value for name, value in os.environ.items()} | chosen


def _values_in_libraries(code: str) -> Iterator[tuple[str, object]]:
    """Plain public values of the libraries' modules that the script imports: it may keep its own there."""
    for module in [builtins, *vars(sys.modules["__main__"]).values()]:
        if isinstance(module, types.ModuleType) and not is_ours(module.__name__, code):
            values = ((name, value) for name, value in list(vars(module).items()) if not name.startswith("_"))
            texts = ((name, repr(value)) for name, value in values if type(value) in _PLAIN)
            yield from ((f"{module.__name__}.{name}", text) for name, text in texts)


_PLAIN = (bool, int, float, str)


def check_settings(initial: Mapping[str, object], code: str) -> None:
    """Raise UncapturableError if the training has changed settings of the process since `process_settings`."""
    changed = differing_names(initial, process_settings(code))
    if changed:
        raise UncapturableError(f"{shorten(changed, 3)} changed during training; change it before, or use an attribute")
