"""Private names of Keras, tested with 3.15.1. For its iterator over epochs see `epoch_iterator`."""

import collections
import dis
import functools
import inspect
import types
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.patches import PatchTarget

_SET_ON_CALLBACKS = frozenset({"model", "_model", "params"})

DATA_ADAPTERS = frozenset({"ArrayDataAdapter", "PyDatasetAdapter", "TFDatasetAdapter"})
"""The class names of adapters whose data can be reopened. Generators have other adapters."""

WRAPPER_MODULES = ("keras.src.utils.tracking", "tensorflow.python.trackable.data_structures")
"""Modules whose containers Keras and TensorFlow put in the place of lists, dicts and sets."""

ARRAY_ADAPTER = "ArrayDataAdapter"
PY_DATASET_ADAPTER = "PyDatasetAdapter"


def optimizer_variables(optimizer: Any) -> list[Any]:
    """The variables that an optimizer was built for; empty where it is not built."""
    return list(getattr(optimizer, "_trainable_variables", ()))


def trained_variables(optimizer: Any) -> list[Any]:
    """The variables that a built optimizer trains."""
    return list(optimizer._trainable_variables)


def inner_variable(variable: Any) -> Any:
    """The variable of TensorFlow behind one of Keras; None before it has values. Any other variable is its own."""
    import keras

    # `value` would apply the scopes of the moment, and create values.
    return variable._value if isinstance(variable, keras.Variable) else variable


def inner_layers(model: Any) -> list[Any]:
    """All layers of a model, including nested ones, without the model itself."""
    return list(model._flatten_layers(include_self=False))


def all_layers(value: Any) -> list[Any]:
    """A layer and all layers inside it; empty for any other value."""
    return list(value._flatten_layers()) if hasattr(value, "_flatten_layers") else []


def functional_twin(model: Any) -> Any:
    """The functional model that a Sequential keeps once its input is known; None before, and for other models."""
    return getattr(model, "_functional", None)


def make_synchronous(callbacks: Any) -> None:
    """Call a list's callbacks before the next step begins. Keras decided this before samebits added its callback."""
    callbacks._async_train = False


def finish_callbacks(callbacks: Any) -> None:
    """Wait until all callbacks of the steps so far have been called."""
    # Keras up to 3.11 has the same method under another name.
    finish = getattr(callbacks, "_flush_futures", None) or callbacks._clear_futures
    finish()


@contextmanager
def kept_initial_epoch(model: Any) -> Iterator[None]:
    """Restore the epoch that a model's next `fit` begins with, whatever is set in the block."""
    epoch = model._initial_epoch
    try:
        yield
    finally:
        model._initial_epoch = epoch


def set_initial_epoch(model: Any, epoch: int) -> None:
    """Let a model's `fit` begin with this epoch. Keras uses the attribute to restore backups."""
    model._initial_epoch = epoch


def compile_metrics(model: Any) -> Any:
    """The container of the metrics that a model was compiled with; None where there are none."""
    return model._compile_metrics


def user_metrics(model: Any) -> Any:
    """The metrics that a script passed to `compile`; None where it passed none."""
    return getattr(compile_metrics(model), "_user_metrics", None)


def reset_also_unbuilt(model: Any) -> None:
    """Let a model reset the metrics that a script passed to `compile` also before its list of them is built."""
    import keras

    metrics = compile_metrics(model)
    if metrics is None or metrics.built:
        return

    def reset_state() -> None:
        if metrics.built:
            type(metrics).reset_state(metrics)
            return
        for metric in keras.tree.flatten(user_metrics(model)):
            if isinstance(metric, keras.metrics.Metric):
                metric.reset_state()

    metrics.reset_state = reset_state


def build_metrics(model: Any, batch: Any) -> None:
    """Build a model's metrics as its first batch would."""
    model._symbolic_build(data_batch=batch)


def validation_iterator(model: Any) -> Any:
    """The iterator over the validation data that a `fit` keeps between epochs; None where there is none."""
    return getattr(model, "_eval_epoch_iterator", None)


def scope_of(layer: Any, parent: str | None = None) -> AbstractContextManager[Any]:
    """The name scope in which Keras builds a layer or an optimizer, also within that of a `parent`."""
    import keras

    # The public one also names the variables of TensorFlow, which an exported model holds.
    scope: AbstractContextManager[Any] = keras.name_scope(layer.name, caller=layer, override_parent=parent)
    return scope


def parent_scope(optimizer: Any) -> str | None:
    """The name scope in which an optimizer was built; None outside of one."""
    paths = (variable.path.rpartition(f"/{optimizer.name}/")[0] for variable in optimizer.variables)
    return next((parent for parent in paths if parent), None)


def current_scope() -> str:
    """The path of the layer that is being called."""
    from keras.src.backend.common.name_scope import current_path

    return str(current_path())


def keras_seed() -> Any:
    """The seed that `keras.utils.set_random_seed` set."""
    return _global_attribute("global_random_seed")


def keeps_seed() -> bool:
    """Whether this version of Keras stores the seed that `keras.utils.set_random_seed` sets."""
    import keras

    return "set_global_attribute" in inspect.unwrap(keras.utils.set_random_seed).__code__.co_names


def has_global_seed_generator() -> bool:
    """Whether Keras has created the generator that layers without a seed draw from."""
    return _global_attribute("global_seed_generator") is not None


def global_seed_generator() -> Any:
    """The generator that layers without a seed draw from. Creating it draws from Python's generator."""
    from keras.src.random.seed_generator import global_seed_generator as generator

    return generator()


def _global_attribute(name: str) -> Any:
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute(name)


def name_counters() -> dict[str, int]:
    """The next number for each name that Keras gives to objects; changing it changes the names."""
    from keras.src.backend.common import global_state

    counters: dict[str, int] = global_state.get_global_attribute(
        "object_name_uids", default=collections.defaultdict(int), set_to_default=True
    )
    return counters


def array_dataset_location() -> PatchTarget:
    """The method that creates, and shuffles, the dataset of a `fit` on arrays."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    return ArrayDataAdapter, "get_tf_dataset"


def adapter_shuffle(adapter: Any) -> Any:
    """The `shuffle` argument of a `fit` on arrays."""
    return adapter._shuffle


def data_adapter_kind(feed: Any) -> str:
    """The class name of the adapter of a `fit`'s data, to compare with `DATA_ADAPTERS`."""
    return type(feed.data_adapter).__name__


def qr_location() -> PatchTarget:
    """The QR decomposition that Keras's orthogonal initialisers call."""
    import keras.src.backend.tensorflow.linalg as keras_linalg

    return keras_linalg, "qr"


def library_names(kind: Any) -> frozenset[str]:
    """The attributes that Keras and TensorFlow themselves set on objects of a class: what their methods store."""
    return _library_names(kind)


@functools.cache
def _library_names(kind: Any) -> frozenset[str]:
    import keras

    bases = [base for base in kind.__mro__ if base.__module__.partition(".")[0] in ("keras", "tensorflow")]
    stored = {name for base in bases for name in _stored_names(base)}
    if issubclass(kind, keras.layers.Layer):
        stored |= _set_from_outside()
    return frozenset(stored)


@functools.cache
def _set_from_outside() -> frozenset[str]:
    """Attributes of layers and models that are set from outside: by `fit`, and by TensorFlow's tracking."""
    import keras

    before = dict(name_counters())
    found = frozenset({"history", *vars(keras.layers.Layer()), *vars(keras.Model())})
    # These two got names, which the script's objects must not miss.
    name_counters().clear()
    name_counters().update(before)
    return found


def _stored_names(kind: type) -> Iterator[str]:
    for item in vars(kind).values():
        parts = (item.fget, item.fset) if isinstance(item, property) else (getattr(item, "__func__", item),)
        for part in parts:
            function = inspect.unwrap(part) if callable(part) else None
            if isinstance(function, types.FunctionType):
                yield from _stored_in(function.__code__)


_STORE_ATTR = dis.opmap["STORE_ATTR"]


def _stored_in(code: types.CodeType) -> Iterator[str]:
    # `dis` would describe each instruction, in a quarter of a second for a model.
    extended = 0
    for operation, byte in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument = extended << 8 | byte
        extended = argument if operation == dis.EXTENDED_ARG else 0
        if operation == _STORE_ATTR:
            yield code.co_names[argument]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _stored_in(constant)


def set_by_fit(kind: Any) -> frozenset[str]:
    """What Keras sets on a callback of a class, and no code of the class does: it is not the callback's own state."""
    return _set_by_fit(kind)


@functools.cache
def _set_by_fit(kind: Any) -> frozenset[str]:
    own = [base for base in kind.__mro__ if base.__module__.partition(".")[0] not in ("builtins", "keras")]
    return _SET_ON_CALLBACKS.difference(*map(_stored_names, own))


def immutable_kinds() -> tuple[type, ...]:
    """Kinds of Keras's objects that training does not change: parts of the graph of a functional model, types."""
    import keras
    from keras.src.ops.node import Node

    return (keras.KerasTensor, keras.Operation, keras.DTypePolicy, Node)


FALSE_WHERE_MISSING = frozenset({"is_awq_calibrated", "is_gptq_calibrated"})
"""Attributes of layers that Keras reads with the default false."""

TRAIN_FUNCTION, TEST_FUNCTION, PREDICT_FUNCTION = "train_function", "test_function", "predict_function"


def kept_functions(model: Any) -> dict[str, Any]:
    """The functions that run a model's steps, which Keras keeps until `compile`."""
    found = {name: getattr(model, name, None) for name in (TRAIN_FUNCTION, TEST_FUNCTION, PREDICT_FUNCTION)}
    return {name: function for name, function in found.items() if function is not None}


def make_functions(model: Any, names: Iterable[str]) -> None:
    """Make those of a model's `kept_functions` that are not there, as Keras does when it first uses them."""
    for name in names:
        if name in (TRAIN_FUNCTION, TEST_FUNCTION, PREDICT_FUNCTION):
            getattr(model, f"make_{name}")()


def step_functions(model: Any) -> dict[str, dict[str, Any]]:
    """The `tf.function`s within each of a model's `kept_functions`: of many steps, and of one."""
    found = {}
    for name, function in kept_functions(model).items():
        held = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {_STEPS: function}
        listed = {part: _traced_function(held[part]) for part in (_STEPS, _STEP) if callable(held.get(part))}
        found[name] = {part: item for part, item in listed.items() if item is not None}
    return found


_STEPS, _STEP = "multi_step_on_iterator", "one_step_on_data"


def _traced_function(function: Any) -> Any:
    """The `tf.function` that a function wraps; None where there is none."""
    found = inspect.unwrap(function, stop=lambda item: tensorflow_private.python_function(item) is not None)
    return found if tensorflow_private.python_function(found) is not None else None


def is_of_step(function: types.FunctionType) -> bool:
    """Whether a Python function is one that Keras traces to run a model's steps."""
    return function.__module__.startswith("keras.")


def runs_eagerly(model: Any) -> bool:
    """Whether a model's steps run as Python, and not as a graph."""
    import tensorflow as tf

    return bool(model.run_eagerly) or tf.config.functions_run_eagerly()


def trace_step(model: Any, element_spec: Any) -> None:
    """Trace the step that a `fit` will execute on such data, which builds what its first step would build."""
    import tensorflow as tf

    model.make_train_function()
    step = inspect.getclosurevars(model.train_function).nonlocals[_STEPS]
    step.get_concrete_function(tf.data.IteratorSpec(element_spec))
