"""The state that models, layers and metrics hold: variables, plain attributes, optimizers and generators."""

import functools
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from samebits.core.digest import Digest
from samebits.runner.checkpoint.state.encoding import PLAIN, UncapturableError
from samebits.runner.checkpoint.state.global_rngs import generator_kinds
from samebits.runner.compat import keras_private

_LIBRARIES = ("keras", "tensorflow", "numpy", "optree", "wrapt", "samebits")
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
    """A Keras object's state besides its variables, by attribute.

    These are the attributes that neither Keras nor TensorFlow sets, whatever their names. Of the others, those that
    hold an optimizer, a metric, a generator, or something of the script's own.
    """
    import keras

    if isinstance(value, keras.Model):
        yield "stop_training", bool(getattr(value, "stop_training", False))
        if getattr(value, "optimizer", None) is not None:
            yield "optimizer", value.optimizer
    known = keras_private.library_names(type(value))
    for name, item in list(vars(value).items()):
        # Private metrics are Keras's own, which hold those of the script: they are captured from `compile`.
        private = name.startswith("_") and isinstance(item, keras.metrics.Metric)
        if name not in known or (name != "optimizer" and not private and _holds_state(item)):
            yield name, item


def _holds_state(item: Any) -> bool:
    """Whether an attribute that Keras sets holds state that is not Keras's own."""
    import keras

    kinds = (keras.optimizers.Optimizer, keras.random.SeedGenerator, keras.metrics.Metric, *generator_kinds())
    if isinstance(item, (keras.layers.Layer, type)):
        return False
    if isinstance(item, (types.FunctionType, functools.partial)):
        return not is_library(getattr(item, "func", item).__module__)
    if isinstance(item, (list, tuple)):
        return any(_holds_state(inner) for inner in item)
    attributed = hasattr(item, "__dict__") and not isinstance(item, types.ModuleType)
    return isinstance(item, kinds) or (attributed and not is_library(type(item).__module__))


def holds_variables_only(item: Any) -> bool:
    """Whether a value is a variable, or a container of nothing else."""
    import keras
    import tensorflow as tf

    items = list(item.values()) if isinstance(item, Mapping) else item
    if isinstance(items, (list, tuple)) and items:
        return all(holds_variables_only(inner) for inner in items)
    return isinstance(item, (keras.Variable, tf.Variable, keras.random.SeedGenerator))


def is_library(module: str | None) -> bool:
    """Whether a module belongs to Keras or TensorFlow, or to what they are made of."""
    return (module or "").partition(".")[0] in _LIBRARIES


def inner_parts(value: Any) -> list[Any]:
    """The layers inside a layer that have state besides variables: layers of the script, and those it added to."""
    layers = keras_private.all_layers(value)[1:]
    return [layer for layer in layers if not is_library(type(layer).__module__) or any(parts_of(layer))]


def plain_settings(value: Any) -> dict[str, str]:
    """The plain public attributes of an optimizer, which a graph may have been traced with."""
    return {
        name: plain_text(item)
        for name, item in sorted(vars(value).items())
        if not name.startswith("_") and name not in _CHANGED_BY_KERAS and type(item) in (*PLAIN, float)
    }


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


def fixed_of(value: Any, done: set[int]) -> dict[str, str]:
    """Plain attributes that Keras set on a layer and its inner layers. A graph may have been traced with them.

    `done` are the layers, by `id`, whose attributes were found earlier; it is added to.
    """
    found = {}
    for number, layer in enumerate(keras_private.all_layers(value) or [value]):
        if id(layer) in done:
            continue
        done.add(id(layer))
        known = keras_private.library_names(type(layer))
        for name, item in vars(layer).items():
            relevant = name in known and not name.startswith("_") and name not in _CHANGED_BY_KERAS
            # `load_weights` sets these; Keras reads a missing one as false.
            relevant = relevant and (item is not False or name not in keras_private.FALSE_WHERE_MISSING)
            if relevant and _is_plain_value(item):
                found[f"{number} {getattr(layer, 'name', '')}.{name}"] = plain_text(item)
        found[f"{number} {getattr(layer, 'name', '')}.trainable"] = repr(getattr(layer, "trainable", None))
    return found


def plain_text(value: Any) -> str:
    """A plain value as text. Arrays by all of their bytes, as `repr` abbreviates them."""
    import numpy as np

    if isinstance(value, (list, tuple)):
        return f"[{', '.join(plain_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {plain_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, (np.ndarray, np.generic)):
        return f"{value.dtype} {value.shape} {Digest.of_bytes(value.tobytes())}"
    return repr(value)


def _is_plain_value(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain_value(item) for item in value)
    if isinstance(value, Mapping):
        return all(_is_plain_value(item) for item in value.values())
    return type(value) in (*PLAIN, float) or type(value).__module__ == "numpy"


def paired(encoded: list[Any], live: Iterable[Any], where: str) -> Iterator[tuple[Any, Any]]:
    """Saved variables or layers, each with its live one; raises UncapturableError where there are not as many."""
    found = list(live)
    if len(found) != len(encoded):
        raise UncapturableError(
            f"{where} had {len(encoded)} variables or layers, but has {len(found)} when the script runs again"
        )
    return zip(encoded, found, strict=True)
