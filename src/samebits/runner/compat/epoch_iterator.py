"""Keras's iterator over the epochs of a `fit`, an evaluation or a prediction, with hooks. Tested with Keras 3.15.1.

A feed is one such iterator.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from samebits.runner.compat.patches import Patches


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedHooks:
    """Functions that are called with a feed.

    - `making`: before a feed is created, without it. Keras may draw from the data to learn its shapes.
    - `made`: after the feed was created.
    - `begun`: when an epoch begins.
    - `read`: when the first element is drawn after the dataset was opened.
    - `skipped`: when the steps to skip have been drawn.
    - `source`: returns what Keras iterates instead of the feed's dataset.
    """

    making: Callable[[], None]
    made: Callable[[Any], None]
    begun: Callable[[Any], None]
    read: Callable[[Any], None]
    skipped: Callable[[Any], None]
    source: Callable[[Any], Iterable[Any]]


def install_feed(patches: Patches, hooks: FeedHooks) -> None:
    """Replace Keras's iterator by one that calls the hooks, and can skip the first steps of an epoch.

    Of `skip` steps the batches are drawn and discarded; `drawn` holds the last one. `used` counts the batches drawn
    since the dataset was opened; `openings` has that number for each opening, of the last one as a place only.
    """
    import keras.src.backend.tensorflow.trainer as keras_trainer

    class Feed(keras_trainer.TFEpochIterator):  # type: ignore[misc]  # Keras has no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            hooks.making()
            super().__init__(*args, **kwargs)
            self.begins: str | None = None
            self.used = 0
            self.openings: list[int] = []
            self.captured: list[dict[str, Any]] = []
            self.followed = False
            self.unread = False
            self.skip = 0
            self.drawn: Any = None
            hooks.made(self)

        def _get_iterator(self) -> Any:
            return hooks.source(self)

        def _enumerate_iterator(self) -> Iterator[Any]:
            hooks.begun(self)
            # Keras up to 3.9 does not yield the last step of a batch of steps.
            for begin, *last, iterator in super()._enumerate_iterator():
                end = last[0] if last else begin + self.steps_per_execution - 1
                if self.unread:
                    self.unread = False
                    hooks.read(self)
                # Keras may draw several batches at once.
                self.used += end - begin + 1
                if end >= self.skip:
                    if self.skip:
                        self.skip = 0
                        hooks.skipped(self)
                    yield (begin, *last, iterator)
                else:
                    self.drawn = _draw(iterator, end - begin + 1)

    patches.replace(keras_trainer, "TFEpochIterator", Feed)


def _draw(iterator: Any, number: int) -> Any:
    """Draw batches, and return the last one."""
    return [next(iterator) for _ in range(number)][-1]


def dataset_of(feed: Any) -> Any:
    """The tf.data pipeline that a feed iterates."""
    return feed._distributed_dataset


def open_iterator(feed: Any) -> Any:
    """The iterator that stays open from one epoch to the next, as with `steps_per_epoch`; None where there is none."""
    return feed._current_iterator


def set_open_iterator(feed: Any, iterator: Any) -> None:
    """Let the next epoch continue with this iterator."""
    feed._current_iterator = iterator


def batches_counted(feed: Any) -> int | None:
    """The batches of an epoch, once Keras has counted them. The count includes the attempt after the last batch."""
    count: int | None = feed._num_batches
    return count


def steps_seen(feed: Any) -> int:
    """The steps that Keras counted in the current epoch."""
    steps: int = feed._steps_seen
    return steps


def limit_steps(feed: Any, most: int) -> None:
    """Shorten the epochs of a feed, as if its data ended there."""
    if feed.steps_per_epoch:
        feed.steps_per_epoch = min(feed.steps_per_epoch, most)
    else:
        feed._num_batches = min(feed._num_batches or most, most)


def set_counts(feed: Any, batches: int | None, steps: int) -> None:
    """Restore both counts."""
    feed._num_batches, feed._steps_seen = batches, steps
