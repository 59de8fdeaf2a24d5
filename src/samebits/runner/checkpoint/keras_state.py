"""What models, layers and metrics hold: variables, plain attributes, and what else goes over into another run."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from samebits.runner.checkpoint.encoding import PLAIN
from samebits.runner.checkpoint.global_rngs import generator_kinds
from samebits.runner.compat import keras_private

_KEPT_BY_KERAS = frozenset(
    {
        "built",
        "history",
        "predict_function",
        "stop_evaluating",
        "stop_predicting",
        "stop_training",
        "test_function",
        "train_function",
    }
)
"""Attributes that change as a model is built, trained and evaluated, or that are kept otherwise."""


def variables_of(value: Any) -> list[Any]:
    """A layer's or metric's variables, each once."""
    found = {id(variable): variable for variable in getattr(value, "variables", ())}
    for layer in keras_private.all_layers(value):
        for item in vars(layer).values():  # as a stateful RNN holds its states
            found |= {id(variable): variable for variable in _loose(item)}
    return list(found.values())


def _loose(value: Any) -> Iterator[Any]:
    """Variables in an attribute, or in a list of one."""
    import keras
    import tensorflow as tf

    for item in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(item, (keras.Variable, tf.Variable)):
            yield item


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """What a model holds beside layers: whether it is to stop, its optimizer, and more of its class's own."""
    import keras

    if isinstance(value, keras.Model):
        yield "stop_training", bool(getattr(value, "stop_training", False))
        if getattr(value, "optimizer", None) is not None:
            yield "optimizer", value.optimizer
    kinds = (keras.optimizers.Optimizer, keras.random.SeedGenerator, keras.metrics.Metric, *generator_kinds())
    for name, item in list(vars(value).items()):
        if name != "optimizer" and not name.startswith("_") and isinstance(item, kinds):
            yield name, item


def is_built_by_keras(model: Any) -> bool:
    """Whether Keras alone builds a model, from the shape of its input: a Sequential of Keras's own layers."""
    import keras

    layers = keras_private.inner_layers(model)
    return type(model) is keras.Sequential and all(type(layer).__module__.startswith("keras.") for layer in layers)


def build_of(value: Any) -> dict[str, Any]:
    """What a model that Keras alone builds was built from: the shape of its input, None before; nothing of others."""
    import keras

    if not isinstance(value, keras.Model) or not is_built_by_keras(value):
        return {}
    known = keras_private.functional_twin(value) is not None
    shape = (value.get_build_config() or {}).get("input_shape") if known else None
    return {"build": None if shape is None else list(shape)}


def fixed_of(value: Any, ours: Callable[[type], bool]) -> dict[str, str]:
    """Plain attributes of a layer and of those inside: a graph was made of them, so they must not change.

    `ours` says whether a class is the user's own.
    """
    layers = keras_private.all_layers(value) or [value]
    found = {}
    for number, layer in enumerate(layers):
        own = ours(type(layer))
        for name, item in vars(layer).items():
            mine = name not in _names_of_keras() if own else not name.startswith("_")
            if mine and name not in _KEPT_BY_KERAS and _is_plain_value(item):
                found[f"{number} {getattr(layer, 'name', '')}.{name}"] = repr(item)
        found[f"{number} {getattr(layer, 'name', '')}.trainable"] = repr(getattr(layer, "trainable", None))
    return found


@functools.cache
def _names_of_keras() -> frozenset[str]:
    """The attributes that every layer and model has."""
    import keras

    return frozenset(vars(keras.layers.Layer())) | frozenset(vars(keras.Model()))


def _is_plain_value(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain_value(item) for item in value)
    if isinstance(value, Mapping):
        return all(_is_plain_value(item) for item in value.values())
    return type(value) in (*PLAIN, float) or type(value).__module__ == "numpy"
