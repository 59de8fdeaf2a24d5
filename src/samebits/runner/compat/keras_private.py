"""Private names of Keras; seen in 3.15.1. For its iterator over epochs see `epoch_iterator`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from samebits.runner.compat.patches import Location

CALLBACK_ATTRIBUTES = frozenset({"model", "_model", "params", "_params", "validation_data"})
"""What Keras sets on a callback; it is no state of the callback's own."""

DATA_ADAPTERS = frozenset({"ArrayDataAdapter", "PyDatasetAdapter", "TFDatasetAdapter"})
"""The adapters whose data can be opened again, by the name of their class; generators have others."""

PY_DATASET_ADAPTER = "PyDatasetAdapter"


def optimizer_variables(optimizer: Any) -> list[Any]:
    """The variables that an optimizer was built for; empty before."""
    return list(getattr(optimizer, "_trainable_variables", ()))


def trained_variables(optimizer: Any) -> list[Any]:
    """The variables that a built optimizer trains."""
    return list(optimizer._trainable_variables)


def inner_layers(model: Any) -> list[Any]:
    """All layers of a model, also nested ones, without the model itself."""
    return list(model._flatten_layers(include_self=False))


def all_layers(value: Any) -> list[Any]:
    """A layer and all layers inside; empty for what is no layer."""
    return list(value._flatten_layers()) if hasattr(value, "_flatten_layers") else []


def functional_twin(model: Any) -> Any:
    """The functional model that a Sequential keeps of itself once its input is known; else None."""
    return getattr(model, "_functional", None)


def make_synchronous(callbacks: Any) -> None:
    """Have a list of callbacks called before the next step begins; Keras had decided that before one was added."""
    callbacks._async_train = False


def finish_callbacks(callbacks: Any) -> None:
    """Wait until all callbacks of the steps so far have been called."""
    callbacks._flush_futures()


@contextmanager
def kept_initial_epoch(model: Any) -> Iterator[None]:
    """Have a model begin its next `fit` with the epoch that it would begin with now, whatever is set meanwhile."""
    epoch = model._initial_epoch
    try:
        yield
    finally:
        model._initial_epoch = epoch


def set_initial_epoch(model: Any, epoch: int) -> None:
    """Have a model's `fit` begin with this epoch; Keras has the attribute for restoring backups."""
    model._initial_epoch = epoch


def compile_metrics(model: Any) -> Any:
    """The container of the metrics that a model was compiled with; None where there are none."""
    return model._compile_metrics


def user_metrics(model: Any) -> Any:
    """The metrics that a script gave to `compile`, as it gave them; None where it gave none."""
    return getattr(compile_metrics(model), "_user_metrics", None)


def build_metrics(model: Any, batch: Any) -> None:
    """Build a model's metrics as its first batch would."""
    model._symbolic_build(data_batch=batch)


def validation_iterator(model: Any) -> Any:
    """The iterator over the validation data that a `fit` keeps from epoch to epoch; None where there is none."""
    return getattr(model, "_eval_epoch_iterator", None)


def scope_of(layer: Any) -> AbstractContextManager[Any]:
    """The scope of names in which Keras builds a layer or an optimizer."""
    from keras.src.backend.common.name_scope import name_scope

    scope: AbstractContextManager[Any] = name_scope(layer.name, caller=layer)
    return scope


def current_scope() -> str:
    """The path of the layer that is being called."""
    from keras.src.backend.common.name_scope import current_path

    return str(current_path())


def global_seed() -> Any:
    """The seed that `keras.utils.set_random_seed` set."""
    return _global_attribute("global_random_seed")


def has_global_seed_generator() -> bool:
    """Whether Keras has made the generator that layers without a seed draw from."""
    return _global_attribute("global_seed_generator") is not None


def global_seed_generator() -> Any:
    """That generator; made where there is none, which draws from Python's."""
    from keras.src.random.seed_generator import global_seed_generator as generator

    return generator()


def _global_attribute(name: str) -> Any:
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute(name)


def array_dataset_location() -> Location:
    """The method that makes the dataset of a `fit` of arrays, and shuffles it."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    return ArrayDataAdapter, "get_tf_dataset"


def adapter_shuffle(adapter: Any) -> Any:
    """The `shuffle` that a `fit` of arrays was given."""
    return adapter._shuffle


def data_adapter_kind(feed: Any) -> str:
    """The name of the class that adapts a `fit`'s data, to compare with `DATA_ADAPTERS`."""
    return type(feed.data_adapter).__name__


def qr_location() -> Location:
    """The QR decomposition that Keras's orthogonal initialisers call."""
    import keras.src.backend.tensorflow.linalg as keras_linalg

    return keras_linalg, "qr"
