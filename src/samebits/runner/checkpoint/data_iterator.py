"""The position and order of training data: what of a `fit`'s data goes over from one epoch, or step, to the next.

A tf.data pipeline that reshuffles draws a seed whenever it is opened, from a counter that all its iterators share. The
state of an iterator, which TensorFlow can take out and put back, holds that counter until the iterator comes to its
end; so it is taken when one is opened. Keras opens one or two in an epoch (`keras/src/trainers/epoch_iterator.py`).

Within an epoch, and where epochs take their steps from one iterator, that is opened as it was, and the steps that are
done are drawn once more, and thrown away: a state within a pipeline forgets the counter where a `repeat` begins anew.
A memory cache that was filled by something random is drawn once to fill it.
"""

import base64
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from samebits.runner.checkpoint.encoding import UncapturableError
from samebits.runner.compat import epoch_iterator, tensorflow_private
from samebits.runner.compat.epoch_iterator import FeedHooks, dataset_of, install_feed
from samebits.runner.compat.keras_private import PY_DATASET_ADAPTER, data_adapter_kind
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.tensorflow_private import reshuffles_each_iteration

_PYTHON = frozenset({"PyFunc", "EagerPyFunc", "PyFuncStateless"})
_IGNORE = 1
"""What TensorFlow does about state outside of the pipeline, which an iterator's state does not hold."""

_warmed: "weakref.WeakSet[Any]" = weakref.WeakSet()


def install(
    patches: Patches,
    made: Callable[[Any], None],
    begun: Callable[[Any], None],
    skipped: Callable[[Any], None],
) -> None:
    """Take the place of Keras's iterator over the epochs of a `fit`, an evaluation or a prediction.

    `made` is told of each new one, `begun` when one begins an epoch, `skipped` when those of its steps are drawn that
    were done before.
    """
    install_feed(patches, FeedHooks(made=made, begun=begun, skipped=skipped, source=_Source))


class _Source:
    """Opens the dataset of a feed, and has it remember how it begins."""

    def __init__(self, feed: Any) -> None:
        self._feed = feed

    def __iter__(self) -> Any:
        return _open(self._feed)


_followed: list[bool] = []
"""Whether the pipeline that is being opened is followed here, if one is."""


def is_followed() -> bool:
    """Whether the pipeline that is being opened is one of a `fit` itself, or opened to put it back."""
    return any(_followed)


def _opened(dataset: Any, *, followed: bool = True) -> Any:
    _followed.append(followed)
    try:
        return iter(dataset)
    finally:
        _followed.pop()


def _open(feed: Any) -> Any:
    dataset = dataset_of(feed)
    iterator = _opened(dataset, followed=feed.followed)
    feed.used = 0
    feed.captured = captured_state(dataset) if feed.steps_per_epoch else []
    feed.begins = begins(dataset, iterator)
    return iterator


def begins(dataset: Any, iterator: Any) -> str | None:
    """The state of an iterator that was just opened, where it tells more than that it was."""
    return _capture(iterator) if reshuffles(dataset) else None


def capture_feed(feed: Any) -> dict[str, Any]:
    """The state of a feed at the end of an epoch; raises UnsavableError."""
    dataset = dataset_of(feed)
    persistent = feed.steps_per_epoch is not None and epoch_iterator.open_iterator(feed) is not None
    if persistent and _random_caches(dataset):
        raise UncapturableError(
            "a cache behind something random cannot be filled anew with steps_per_epoch; drop one of them"
        )
    if persistent and data_adapter_kind(feed) == PY_DATASET_ADAPTER:
        raise UncapturableError("epochs of some steps of a PyDataset cannot be begun again; drop steps_per_epoch")
    if feed.used and not persistent:
        check_order(dataset)
    return {
        "num_batches": epoch_iterator.batches_counted(feed),
        "steps_seen": epoch_iterator.steps_seen(feed),
        "drawn": feed.used if persistent else None,
        "iterator": feed.begins,
        "captured": feed.captured if persistent else captured_state(dataset),
    }


def length(feed: Any) -> int:
    """How many batches an epoch has at least, as far as that is known; 0 where it is not."""
    known = feed.steps_per_epoch or feed.data_adapter.num_batches
    if known is not None:
        return int(known)
    # Keras counted the one that failed.
    return int((epoch_iterator.batches_counted(feed) or 0) - feed.steps_per_execution)


def restore_feed(feed: Any, state: Mapping[str, Any], *, drawn: bool) -> None:
    """Make a feed of the resumed run what the other was; `drawn` says whether that one had drawn all its data once."""
    dataset = dataset_of(feed)
    if drawn and state["drawn"] is None:
        warm(dataset)
    restore_captured(dataset, state["captured"])
    if state["iterator"] is not None or state["drawn"] is not None:
        iterator = _open(feed)
        if state["iterator"] is not None:
            _put(iterator, state["iterator"])
        feed.begins = state["iterator"]
        if state["drawn"] is not None:
            epoch_iterator.set_open_iterator(feed, iterator)
            feed.used, feed.captured = state["drawn"], state["captured"]
            for _ in range(state["drawn"]):
                next(iterator)
    epoch_iterator.set_counts(feed, state["num_batches"], state["steps_seen"])


def restore_dataset(dataset: Any, state: str) -> None:
    """Have the pipeline's next iterator begin as it would have."""
    warm(dataset)
    _put(_opened(dataset), state)


def reshuffles(dataset: Any) -> bool:
    """Whether a pipeline gives another order each time it is opened."""
    return any(reshuffles_each_iteration(part) for part in _parts(dataset))


def carries_state(dataset: Any) -> bool:
    """Whether what a pipeline gives depends on how often it was opened, or on variables that it changes."""
    return any(reshuffles_each_iteration(part) or list(_captured(part)) for part in _parts(dataset))


def check_data(data: Any, name: str) -> None:
    """Raise UnsavableError where data has state that nobody can take out."""
    import tensorflow as tf

    if hasattr(data, "__next__"):
        raise UncapturableError(f"{name} is a Python generator, whose place cannot be saved; use a PyDataset")
    if isinstance(data, tf.data.Dataset):
        _check_pipeline(data)
        _check_caches(data, name)


def _check_pipeline(dataset: Any) -> None:
    for part in _parts(dataset):
        if any(node in _PYTHON for graph in _graphs(part) for node in _operations(graph)):
            raise UncapturableError(
                "the tf.data pipeline calls Python (from_generator, py_function or numpy_function), which may hold"
                " state of its own; use a keras.utils.PyDataset, or operations of TensorFlow"
            )


def warm(dataset: Any) -> None:
    """Fill the caches of a pipeline in which something random comes before a cache, as its first epoch did."""
    for part in _random_caches(dataset):
        if part not in _warmed:
            _warmed.add(part)
            for _ in _opened(part):
                pass


def captured_state(dataset: Any) -> list[dict[str, Any]]:
    """The values of the variables that a pipeline's functions read or change, such as those of Keras's augmentation."""
    import tensorflow as tf

    found = []
    for handle, dtype in _captures(dataset):
        array = tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype).numpy()
        content = base64.b64encode(array.tobytes()).decode()
        found.append({"dtype": dtype.name, "shape": list(array.shape), "in": content})
    return found


def restore_captured(dataset: Any, state: list[dict[str, Any]]) -> None:
    """Assign them again."""
    import numpy as np
    import tensorflow as tf

    captures = list(_captures(dataset))
    if len(captures) != len(state):
        raise UncapturableError("the tf.data pipeline uses other variables when the script runs again")
    for (handle, dtype), item in zip(captures, state, strict=True):
        array = np.frombuffer(base64.b64decode(item["in"]), dtype.as_numpy_dtype).reshape(item["shape"])
        tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(array, dtype))


def _capture(iterator: Any) -> str:
    import tensorflow as tf

    try:
        variant = tf.raw_ops.SerializeIterator(
            resource_handle=tensorflow_private.iterator_handle(iterator),
            external_state_policy=_IGNORE,
        )
        return base64.b64encode(tf.io.serialize_tensor(variant).numpy()).decode()
    except (tf.errors.OpError, AttributeError) as error:
        what = str(getattr(error, "message", error)).splitlines()[0]
        raise UncapturableError(f"how the tf.data pipeline begins cannot be saved: {what}") from error


def _put(iterator: Any, state: str) -> None:
    import tensorflow as tf

    variant = tf.io.parse_tensor(base64.b64decode(state), tf.variant)
    try:
        tf.raw_ops.DeserializeIterator(resource_handle=tensorflow_private.iterator_handle(iterator), serialized=variant)
    except tf.errors.OpError as error:
        raise UncapturableError(
            f"the tf.data pipeline is another one when the script runs again: {error.message}"
        ) from error


def check_order(dataset: Any) -> None:
    """Raise UnsavableError where a pipeline draws seeds not only when it is opened."""
    for part in _parts(dataset):
        before = any(reshuffles_each_iteration(inner) for inner in _parts(part))
        inside = any(node.startswith("ShuffleDataset") for graph in _graphs(part) for node in _operations(graph))
        if inside or (before and "Repeat" in type(part).__name__):
            raise UncapturableError(
                "the tf.data pipeline reshuffles before repeat(), or inside of a function, and the number of its"
                " batches is not known; shuffle behind that, or set it with tf.data.experimental.assert_cardinality"
            )


def _parts(dataset: Any) -> Iterator[Any]:
    """A pipeline's datasets, from its end to its sources."""
    yield dataset
    for before in tensorflow_private.source_datasets(dataset):
        yield from _parts(before)


def _graphs(part: Any) -> Iterator[Any]:
    for function in tensorflow_private.dataset_functions(part):
        yield function.graph


def _operations(graph: Any) -> Iterator[str]:
    definition = graph.as_graph_def()
    for nodes in (definition.node, *(function.node_def for function in definition.library.function)):
        for node in nodes:
            yield node.op


def _check_caches(dataset: Any, name: str) -> None:
    """Raise UnsavableError where a cache of something random cannot be filled anew alone."""
    caches = _random_caches(dataset)
    if any(_endless(part) for part in caches):
        raise UncapturableError(f"{name} keeps an endless random pipeline in a cache; put repeat() behind the cache")
    before = [part for cache in caches for part in _parts(cache)]
    beside = [part for part in _parts(dataset) if not any(part is known for known in before)]
    if caches and any(len(tensorflow_private.source_datasets(part)) > 1 for part in beside):
        raise UncapturableError(
            f"{name} joins a random pipeline that is cached with another one; cache what is not random"
        )


def _endless(part: Any) -> bool:
    import tensorflow as tf

    return bool(int(part.cardinality()) == tf.data.INFINITE_CARDINALITY)


def _random_caches(dataset: Any) -> list[Any]:
    """The caches of a pipeline that are filled otherwise another time."""
    return [part for part in _parts(dataset) if "Cache" in type(part).__name__ and carries_state(part)]


def _captures(dataset: Any) -> Iterator[tuple[Any, Any]]:
    for part in _parts(dataset):
        yield from _captured(part)


def _captured(part: Any) -> Iterator[tuple[Any, Any]]:
    """Handle and type of each variable that the functions of a part capture."""
    import tensorflow as tf

    for function in tensorflow_private.dataset_functions(part):
        for tensor in function.captured_inputs:
            dtype = tensorflow_private.variable_type(tensor) if tensor.dtype == tf.resource else None
            if dtype is not None:
                yield tensor, dtype
