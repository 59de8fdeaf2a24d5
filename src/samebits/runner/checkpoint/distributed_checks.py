"""What data of several workers a resumed run can find its position in; the rest is refused before training."""

import functools
from collections.abc import Callable
from typing import Any

from samebits.runner.checkpoint.data import data_iterator
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.compat import multi_worker
from samebits.runner.compat.epoch_iterator import dataset_of
from samebits.runner.compat.patches import Patches


def check_scope(model: Any, strategy: Any, cure: str) -> None:
    """Raise UncapturableError, with a cure, where distributed data is for a model that was made in no scope."""
    import tensorflow as tf

    # TensorFlow has a strategy without a public name for such a model.
    if not tf.distribute.has_strategy() and strategy is tf.distribute.get_strategy():
        raise UncapturableError(
            f"a strategy distributes the data of {model.name}, which was not made in its scope; {cure}"
        )


def check_distributed(feed: Any, strategy: Any) -> None:
    """Raise UncapturableError for data whose position cannot be found again."""
    import tensorflow as tf

    source = multi_worker.source_of(dataset_of(feed))
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or source is None:
        raise UncapturableError(
            f"the data is distributed by {type(strategy).__name__}, and its order cannot be saved; give fit a tf.data"
            " pipeline or arrays, under MultiWorkerMirroredStrategy"
        )
    data_iterator.check_data(source, "the data of the workers")
    if data_iterator.captured_state(source) and not data_iterator.is_of_arrays(feed):
        raise UncapturableError(
            "the tf.data pipeline of several workers uses variables, as Keras's augmentation layers do, which cannot be"
            " restored; put these layers into the model"
        )


def check_validation(data: Any) -> None:
    """Raise UncapturableError for validation data that a finished `fit` would have to open again."""
    import tensorflow as tf

    source = multi_worker.source_of(data) or data
    if isinstance(source, tf.data.Dataset) and data_iterator.carries_state(source):
        raise UncapturableError(
            "the validation_data of several workers reshuffles, or uses variables; shuffle with"
            " reshuffle_each_iteration=False"
        )


def watch_openings(patches: Patches, manager: CheckpointManager) -> None:
    """Refuse what opens distributed pipelines beside `fit` while the model trains."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def opened(dataset: Any) -> Any:
            iterator = original(dataset)
            if manager.phase is not None and not data_iterator.is_followed() and _changes_when_opened(dataset):
                manager.refuse(
                    "a distributed tf.data pipeline that reshuffles, or uses variables, is opened in a callback or a"
                    " loop; shuffle with reshuffle_each_iteration=False"
                )
            return iterator

        return opened

    for location in multi_worker.opening_locations():
        patches.wrap(location, wrap)


def _changes_when_opened(dataset: Any) -> bool:
    """Whether another opening of a distributed pipeline may change what a resumed run would draw."""
    source = multi_worker.source_of(dataset)
    return source is None or data_iterator.carries_state(source)
