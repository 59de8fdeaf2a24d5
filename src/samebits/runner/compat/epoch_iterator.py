"""Keras's iterator over the epochs of a `fit`, an evaluation or a prediction, with hooks; seen in Keras 3.15.1."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from samebits.runner.compat.patches import Patches


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedHooks:
    """What is called with a feed: when it was made, when an epoch begins, and when the steps to skip are drawn.

    `source` gives what Keras iterates in the place of the feed's dataset.
    """

    made: Callable[[Any], None]
    begun: Callable[[Any], None]
    skipped: Callable[[Any], None]
    source: Callable[[Any], Iterable[Any]]


def install_feed(patches: Patches, hooks: FeedHooks) -> None:
    """Take the place of Keras's iterator; `skip` steps of an epoch are drawn and thrown away, the last kept in `drawn`.

    A feed counts the batches that it drew since its dataset was opened in `used`.
    """
    import keras.src.backend.tensorflow.trainer as keras_trainer

    class Feed(keras_trainer.TFEpochIterator):  # type: ignore[misc]  # Keras has no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.begins: str | None = None
            self.used = 0
            self.captured: list[dict[str, Any]] = []
            self.followed = False
            self.skip = 0
            self.drawn: Any = None
            hooks.made(self)

        def _get_iterator(self) -> Any:
            return hooks.source(self)

        def _enumerate_iterator(self) -> Iterator[Any]:
            hooks.begun(self)
            for begin, end, iterator in super()._enumerate_iterator():
                self.used += end - begin + 1
                if end >= self.skip:
                    if self.skip:
                        self.skip = 0
                        hooks.skipped(self)
                    yield begin, end, iterator
                else:
                    self.drawn = _draw(iterator, end - begin + 1)

    patches.replace(keras_trainer, "TFEpochIterator", Feed)


def _draw(iterator: Any, number: int) -> Any:
    """The last of some batches."""
    return [next(iterator) for _ in range(number)][-1]


def dataset_of(feed: Any) -> Any:
    """The tf.data pipeline that a feed iterates."""
    return feed._distributed_dataset


def open_iterator(feed: Any) -> Any:
    """The iterator that goes over from one epoch to the next, as with `steps_per_epoch`; None where there is none."""
    return feed._current_iterator


def set_open_iterator(feed: Any, iterator: Any) -> None:
    """Have the next epoch go on with this iterator."""
    feed._current_iterator = iterator


def batches_counted(feed: Any) -> int | None:
    """The batches of an epoch, where Keras has counted them; with the one that it looked for in vain."""
    count: int | None = feed._num_batches
    return count


def steps_seen(feed: Any) -> int:
    """The steps that Keras counted in the current epoch."""
    seen: int = feed._steps_seen
    return seen


def set_counts(feed: Any, batches: int | None, steps: int) -> None:
    """Put both counts back."""
    feed._num_batches, feed._steps_seen = batches, steps
