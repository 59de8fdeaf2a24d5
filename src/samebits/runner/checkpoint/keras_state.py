"""The state that models, layers and metrics hold: variables, plain attributes, optimizers and generators."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from samebits.runner.checkpoint.encoding import PLAIN
from samebits.runner.checkpoint.global_rngs import generator_kinds
from samebits.runner.compat import keras_private

_CHANGED_BY_KERAS = frozenset(
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
"""Attributes that Keras changes while a model is built, trained or evaluated, or that are saved separately."""


def variables_of(value: Any) -> list[Any]:
    """The variables of a layer or metric, each once."""
    found = {id(variable): variable for variable in getattr(value, "variables", ())}
    for layer in keras_private.all_layers(value):
        # The states of a stateful RNN are not among its `variables`.
        for item in vars(layer).values():
            found |= {id(variable): variable for variable in _variables_in(item)}
    return list(found.values())


def _variables_in(value: Any) -> Iterator[Any]:
    """The variables in an attribute that is a variable or a list of them."""
    import keras
    import tensorflow as tf

    for item in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(item, (keras.Variable, tf.Variable)):
            yield item


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """A model's state besides its layers: the stop flag, optimizers, metrics and random generators, by attribute."""
    import keras

    if isinstance(value, keras.Model):
        yield "stop_training", bool(getattr(value, "stop_training", False))
        if getattr(value, "optimizer", None) is not None:
            yield "optimizer", value.optimizer
    kinds = (keras.optimizers.Optimizer, keras.random.SeedGenerator, keras.metrics.Metric, *generator_kinds())
    for name, item in list(vars(value).items()):
        # Private attributes belong to Keras, which creates them again.
        if name != "optimizer" and not name.startswith("_") and isinstance(item, kinds):
            yield name, item


def is_built_by_keras(model: Any) -> bool:
    """Whether Keras can build a model from an input shape alone: a Sequential of Keras's own layers."""
    import keras

    layers = keras_private.inner_layers(model)
    return type(model) is keras.Sequential and all(type(layer).__module__.startswith("keras.") for layer in layers)


def build_of(value: Any) -> dict[str, Any]:
    """The input shape from which Keras built a model, or None if it is not built; empty for other models."""
    import keras

    if not isinstance(value, keras.Model) or not is_built_by_keras(value):
        return {}
    known = keras_private.functional_twin(value) is not None
    shape = (value.get_build_config() or {}).get("input_shape") if known else None
    return {"build": None if shape is None else list(shape)}


def fixed_of(value: Any, ours: Callable[[type], bool]) -> dict[str, str]:
    """Plain attributes of a layer and its inner layers. A graph may have been traced with them: they must not change.

    `ours` says whether a class belongs to the script.
    """
    layers = keras_private.all_layers(value) or [value]
    found = {}
    for number, layer in enumerate(layers):
        # The script's layers may have private attributes of their own; those of Keras's layers are internals.
        own = ours(type(layer))
        for name, item in vars(layer).items():
            relevant = name not in _names_of_keras() if own else not name.startswith("_")
            if relevant and name not in _CHANGED_BY_KERAS and _is_plain_value(item):
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
