"""Captures and restores the position and order of training data, from one epoch or step to the next.

A tf.data pipeline that reshuffles draws a seed each time an iterator over it is created, from a counter that all its
iterators share. TensorFlow can save and restore the state of an iterator, and that state includes the counter until the
iterator reaches its end. So the state is captured when an iterator is created. Keras creates one or two per epoch
(`keras/src/trainers/epoch_iterator.py`).

To resume within an epoch, the iterator is created as it was then, and the finished steps are drawn again and discarded.
The same happens where several epochs draw from one iterator. A state from within a pipeline is not used: it loses the
counter where a `repeat` starts over. A memory cache that was filled in random order is filled again by drawing it once.
"""

import base64
import functools
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from samebits.runner.checkpoint.data import distributed_data
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.compat import epoch_iterator, multi_worker, tensorflow_private
from samebits.runner.compat.epoch_iterator import FeedHooks, dataset_of, install_feed
from samebits.runner.compat.keras_private import ARRAY_ADAPTER, PY_DATASET_ADAPTER, data_adapter_kind
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.tensorflow_private import reshuffles_each_iteration

_PYTHON_NODES = frozenset({"PyFunc", "EagerPyFunc", "PyFuncStateless"})
# TensorFlow's policy for state outside of the pipeline, which the state of an iterator does not include.
_IGNORE_EXTERNAL_STATE = 1

# Caches that were filled in this process already.
_filled: "weakref.WeakSet[Any]" = weakref.WeakSet()


def install_data_hooks(patches: Patches, *, opened: Callable[[Any], None], **hooks: Callable[..., None]) -> None:
    """Replace Keras's iterator over the epochs of a `fit`, an evaluation or a prediction.

    `opened` is called with it when its pipeline was opened; for the other `hooks` see `FeedHooks`.
    """
    install_feed(patches, FeedHooks(source=functools.partial(_Source, opened), **hooks))


class _Source:
    """Creates the iterator of a feed, which then remembers the initial state."""

    def __init__(self, opened: Callable[[Any], None], feed: Any) -> None:
        self._opened = opened
        self._feed = feed

    def __iter__(self) -> Any:
        iterator = _open(self._feed)
        self._feed.unread = True
        self._opened(self._feed)
        return iterator


# Whether the pipelines that are being opened right now are handled here; the innermost is last.
_followed: list[bool] = []


def is_followed() -> bool:
    """Whether the pipeline being opened belongs to a `fit` itself, or is opened to restore its state."""
    return any(_followed)


def _new_iterator(dataset: Any, *, followed: bool = True) -> Any:
    _followed.append(followed)
    try:
        return iter(dataset)
    finally:
        _followed.pop()


def _open(feed: Any) -> Any:
    dataset = dataset_of(feed)
    iterator = _new_iterator(dataset, followed=feed.followed)
    feed.openings = [*feed.openings[:-1], *([feed.used] if feed.openings else []), 0]
    feed.used = 0
    # With `steps_per_epoch`, the checkpoint comes long after the iterator was created.
    feed.captured = captured_state(dataset) if feed.steps_per_epoch else []
    feed.begins = initial_state(dataset, iterator)
    return iterator


def initial_state(dataset: Any, iterator: Any) -> str | None:
    """The state of a new iterator; None if every iterator over the pipeline begins the same way."""
    return _iterator_state(iterator) if reshuffles(dataset) else None


def is_distributed(feed: Any) -> bool:
    """Whether a `tf.distribute` strategy distributes the data of a feed."""
    import tensorflow as tf

    return not isinstance(dataset_of(feed), tf.data.Dataset)


def is_of_arrays(feed: Any) -> bool:
    """Whether each epoch opens arrays anew, in an order that is a function of seed and epoch."""
    return not feed.steps_per_epoch and data_adapter_kind(feed) == ARRAY_ADAPTER


def capture_feed(feed: Any) -> dict[str, Any]:
    """The state of a feed at the end of an epoch. Raises UncapturableError."""
    dataset = dataset_of(feed)
    # With `steps_per_epoch`, the next epoch draws from the same iterator.
    persistent = feed.steps_per_epoch is not None and epoch_iterator.open_iterator(feed) is not None
    if persistent and _random_caches(dataset):
        raise UncapturableError(
            "with steps_per_epoch, a cache of random data cannot be filled again; drop the cache or steps_per_epoch"
        )
    if persistent and data_adapter_kind(feed) == PY_DATASET_ADAPTER:
        raise UncapturableError("a PyDataset cannot be resumed with steps_per_epoch; drop steps_per_epoch")
    shared = is_distributed(feed)
    if feed.used and not persistent:
        check_order(multi_worker.source_of(dataset) if shared else dataset)
    return {
        **({"distributed": distributed_data.capture(feed, persistent=persistent)} if shared else {}),
        "num_batches": epoch_iterator.batches_counted(feed),
        "steps_seen": epoch_iterator.steps_seen(feed),
        "drawn": feed.used if persistent else None,
        "iterator": feed.begins,
        "captured": feed.captured if persistent else captured_state(dataset),
    }


def epoch_length(feed: Any) -> int:
    """The number of batches in an epoch, or a lower bound of it; 0 if unknown."""
    known = feed.steps_per_epoch or feed.data_adapter.num_batches
    if known is not None:
        return int(known)
    # Keras also counted the attempt that found no more data.
    return int((epoch_iterator.batches_counted(feed) or 0) - feed.steps_per_execution)


def restores_order(state: Mapping[str, Any]) -> bool:
    """Whether to restore a feed opens its pipeline as it was opened last."""
    return state["iterator"] is not None or state["drawn"] is not None


def restore_feed(feed: Any, state: Mapping[str, Any], *, drawn: bool) -> None:
    """Restore a feed. `drawn` says whether the original run had drawn all its data at least once."""
    dataset = dataset_of(feed)
    # A cache must be filled before the state is restored, as filling it draws seeds.
    if drawn and state["drawn"] is None:
        fill_caches(dataset)
    restore_captured(dataset, state["captured"])
    if is_distributed(feed):
        stateless = is_of_arrays(feed) or not carries_state(multi_worker.source_of(dataset))
        distributed_data.restore(feed, state["distributed"], _open, stateless=stateless)
    if restores_order(state):
        iterator = _open(feed)
        if state["iterator"] is not None:
            _restore_iterator(iterator, state["iterator"])
        feed.begins = state["iterator"]
        if state["drawn"] is not None:
            epoch_iterator.set_open_iterator(feed, iterator)
            feed.used, feed.captured = state["drawn"], state["captured"]
            # The iterator is at its beginning; the batches before the checkpoint are discarded.
            distributed_data.draw(iterator, state["drawn"])
    epoch_iterator.set_counts(feed, state["num_batches"], state["steps_seen"])


def restore_dataset(dataset: Any, state: str) -> None:
    """Make the pipeline's next iterator begin as it would have in the original run."""
    fill_caches(dataset)
    # All iterators share the counter of seeds, so that restoring one of them is enough.
    _restore_iterator(_new_iterator(dataset), state)


def reshuffles(dataset: Any) -> bool:
    """Whether a pipeline yields another order each time it is opened."""
    return bool(reshuffling_parts(dataset))


def reshuffling_parts(dataset: Any) -> list[Any]:
    """The parts of a pipeline that yield another order each time they are opened."""
    return [part for part in _parts(dataset) if reshuffles_each_iteration(part)]


def first_reshuffling(dataset: Any) -> list[Any]:
    """Those that are opened with the pipeline; a part that shuffles opens its own source with the first element."""
    if reshuffles_each_iteration(dataset):
        return [dataset]
    return [part for source in tensorflow_private.source_datasets(dataset) for part in first_reshuffling(source)]


def open_again(part: Any) -> None:
    """Open a part of a pipeline, so that its counter goes on as if the original run had opened it."""
    _new_iterator(part)


def carries_state(dataset: Any) -> bool:
    """Whether a pipeline's elements depend on how often it was opened, or on variables that its functions use."""
    return any(reshuffles_each_iteration(part) or list(_handles_of(part)) for part in _parts(dataset))


def check_data(data: Any, name: str) -> None:
    """Raise UncapturableError if the data has state that cannot be captured. `name` names it in messages."""
    import tensorflow as tf

    if hasattr(data, "__next__"):
        raise UncapturableError(f"{name} is a Python generator, whose position cannot be saved; use a PyDataset")
    if isinstance(data, tf.data.Dataset):
        _check_pipeline(data)
        _check_caches(data, name)


def _check_pipeline(dataset: Any) -> None:
    for part in _parts(dataset):
        if any(node in _PYTHON_NODES for graph in _graphs(part) for node in _op_types(graph)):
            raise UncapturableError(
                "the tf.data pipeline calls Python (from_generator, py_function or numpy_function), which may have its"
                " own state; use a keras.utils.PyDataset, or TensorFlow operations"
            )


def fill_caches(dataset: Any) -> None:
    """Fill the caches of random data in a pipeline, as the first epoch of the original run did."""
    for part in _random_caches(dataset):
        # A second `fit` on the same pipeline finds the cache filled.
        if part not in _filled:
            _filled.add(part)
            for _ in _new_iterator(part):
                pass


def captured_state(dataset: Any) -> list[dict[str, Any]]:
    """The values of the variables that a pipeline's functions use, such as those of Keras's augmentation layers."""
    import tensorflow as tf

    found = []
    # Read by handle, as the Python variable may not exist any more.
    for handle, dtype in _variable_handles(dataset):
        array = tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype).numpy()
        content = base64.b64encode(array.tobytes()).decode()
        found.append({"dtype": dtype.name, "shape": list(array.shape), "in": content})
    return found


def restore_captured(dataset: Any, state: list[dict[str, Any]]) -> None:
    """Assign saved values to the variables that a pipeline's functions use. Raises UncapturableError."""
    import numpy as np
    import tensorflow as tf

    handles = list(_variable_handles(dataset))
    # The handles are in the order of the pipeline, which is the same in every run.
    if len(handles) != len(state):
        raise UncapturableError("the tf.data pipeline uses different variables when the script runs again")
    for (handle, dtype), item in zip(handles, state, strict=True):
        array = np.frombuffer(base64.b64decode(item["in"]), dtype.as_numpy_dtype).reshape(item["shape"])
        tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(array, dtype))


def _iterator_state(iterator: Any) -> str:
    import tensorflow as tf

    try:
        variant = tf.raw_ops.SerializeIterator(
            resource_handle=tensorflow_private.iterator_handle(iterator),
            external_state_policy=_IGNORE_EXTERNAL_STATE,
        )
        return base64.b64encode(tf.io.serialize_tensor(variant).numpy()).decode()
    except (tf.errors.OpError, AttributeError) as error:
        reason = str(getattr(error, "message", error)).splitlines()[0]
        raise UncapturableError(f"the initial state of the tf.data pipeline cannot be saved: {reason}") from error


def _restore_iterator(iterator: Any, state: str) -> None:
    import tensorflow as tf

    variant = tf.io.parse_tensor(base64.b64decode(state), tf.variant)
    try:
        tf.raw_ops.DeserializeIterator(resource_handle=tensorflow_private.iterator_handle(iterator), serialized=variant)
    except tf.errors.OpError as error:
        raise UncapturableError(f"the tf.data pipeline differs when the script runs again: {error.message}") from error


def check_order(dataset: Any) -> None:
    """Raise UncapturableError if a pipeline draws seeds also after it was opened."""
    for part in _parts(dataset):
        upstream = any(reshuffles_each_iteration(inner) for inner in _parts(part))
        nested = any(node.startswith("ShuffleDataset") for graph in _graphs(part) for node in _op_types(graph))
        if nested or (upstream and "Repeat" in type(part).__name__):
            raise UncapturableError(
                "the tf.data pipeline reshuffles before repeat() or inside a function, and its number of batches is"
                " unknown; shuffle after repeat(), or set the number with tf.data.experimental.assert_cardinality"
            )


def _parts(dataset: Any) -> Iterator[Any]:
    """All datasets of a pipeline, from its end to its sources."""
    yield dataset
    for source in tensorflow_private.source_datasets(dataset):
        yield from _parts(source)


def _graphs(part: Any) -> Iterator[Any]:
    for function in tensorflow_private.dataset_functions(part):
        yield function.graph


def _op_types(graph: Any) -> Iterator[str]:
    definition = graph.as_graph_def()
    for nodes in (definition.node, *(function.node_def for function in definition.library.function)):
        for node in nodes:
            yield node.op


def _check_caches(dataset: Any, name: str) -> None:
    """Raise UncapturableError if a cache of random data cannot be filled without drawing from the rest."""
    caches = _random_caches(dataset)
    if any(_is_infinite(part) for part in caches):
        raise UncapturableError(f"{name} caches an infinite random pipeline; call repeat() after cache()")
    cached = [part for cache in caches for part in _parts(cache)]
    uncached = [part for part in _parts(dataset) if not any(part is known for known in cached)]
    # Filling a cache must not draw from a pipeline that is combined with it later.
    if caches and any(len(tensorflow_private.source_datasets(part)) > 1 for part in uncached):
        raise UncapturableError(
            f"{name} combines a cached random pipeline with another pipeline; cache only data that is not random"
        )


def _is_infinite(part: Any) -> bool:
    import tensorflow as tf

    return bool(int(part.cardinality()) == tf.data.INFINITE_CARDINALITY)


def _random_caches(dataset: Any) -> list[Any]:
    """The caches of a pipeline whose contents depend on random state when they are filled."""
    return [part for part in _parts(dataset) if "Cache" in type(part).__name__ and carries_state(part)]


def _variable_handles(dataset: Any) -> Iterator[tuple[Any, Any]]:
    for part in _parts(dataset):
        yield from _handles_of(part)


def _handles_of(part: Any) -> Iterator[tuple[Any, Any]]:
    """Handle and dtype of each variable that the functions of one dataset use."""
    import tensorflow as tf

    for function in tensorflow_private.dataset_functions(part):
        for tensor in function.captured_inputs:
            dtype = tensorflow_private.variable_type(tensor) if tensor.dtype == tf.resource else None
            if dtype is not None:
                yield tensor, dtype
