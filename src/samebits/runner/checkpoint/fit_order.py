"""The order of the data of a `fit`, also where validation or callbacks open pipelines that reshuffle."""

from collections.abc import Mapping
from typing import Any

from samebits.runner.checkpoint.data import data_iterator
from samebits.runner.checkpoint.data.pipeline_openings import PipelineOpenings, are_separate
from samebits.runner.checkpoint.fit_phase import FitPhase, stateful_data
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.state.code_inspection import calling_function
from samebits.runner.compat import keras_private, multi_worker
from samebits.runner.compat.epoch_iterator import dataset_of
from samebits.runner.compat.patches import Patches


class FitOrder:
    """Restores the positions of feeds. What else opens their pipelines, or others, is counted and done again."""

    def __init__(self, manager: CheckpointManager) -> None:
        self._manager = manager
        self.openings = PipelineOpenings(lambda: getattr(self._manager.phase, "datasets", ()))

    def install(self, patches: Patches) -> None:
        """Count openings from here on."""
        self.openings.install(patches, self._check_callback, self._phases)

    @property
    def phase(self) -> FitPhase | None:
        """The `fit` that is going on."""
        return self._manager.phase if isinstance(self._manager.phase, FitPhase) else None

    def _phases(self) -> int | None:
        return None if self._manager.phase is not None else self._manager.phases

    def begin_phase(self) -> None:
        """Note that a `fit` begins."""
        self.openings.begin_phase()

    def note(self, feed: Any) -> None:
        """Note that a feed opened its pipeline."""
        if feed.followed:
            self.openings.note(dataset_of(feed), data=self.phase is not None and feed is self.phase.feed)

    def note_read(self, feed: Any) -> None:
        """Note that a feed draws its first element."""
        if feed.followed:
            self.openings.note_read(dataset_of(feed))

    def capture(self) -> dict[str, list[int]]:
        """How often pipelines were opened."""
        return self.openings.capture()

    def restore(self, feed: Any, state: Mapping[str, Any], openings: Any, *, drawn: bool) -> None:
        """Restore the position of a phase's data, then open what others opened since. Raises UncapturableError."""
        data_iterator.restore_feed(feed, state, drawn=drawn)
        if state["drawn"]:
            # The elements up to this position were drawn again.
            self.openings.note(dataset_of(feed), data=True)
            self.openings.note_read(dataset_of(feed))
        self.openings.restore(openings or {}, dataset_of(feed), opened=data_iterator.restores_order(state))

    def open_missing(self, feed: Any, openings: Any) -> None:
        """Open what others opened since a phase's data was opened. Raises UncapturableError."""
        self.openings.restore(openings or {}, dataset_of(feed), opened=False)

    def making(self) -> None:
        """A resumed `fit` opens its validation data anew: note the state before Keras looks into it."""
        phase = self.phase
        if phase is None or phase.feed is None or phase.validation is None or calling_function(2) != "fit":
            return
        with self._manager.work():
            phase.peeked = self._manager.attempt(lambda: self._manager.capture(stateful_data(phase)))

    def restore_validation(self, phase: FitPhase, feed: Any) -> None:
        """Restore the position in the validation data of a resumed `fit`. Raises UncapturableError."""
        state = dict(phase.validation or {})
        if state["drawn"] is None and self.openings.is_counted(dataset_of(feed)):
            # Its parts were opened as often as they were, when the phase was restored.
            state["iterator"] = None
        data_iterator.restore_feed(feed, state, drawn=True)
        if phase.peeked is not None:
            contents = phase.peeked.contents
            self._manager.restore_objects(
                phase.peeked.encoded, stateful_data(phase), read=lambda digest: bytes(contents[str(digest)])
            )

    def _check_callback(self, dataset: Any) -> None:
        """Refuse a callback that iterates a reshuffling pipeline whose order could not be restored."""
        phase = self.phase
        if phase is None or phase.callbacks is None or not data_iterator.reshuffles(dataset):
            return
        feeds = [phase.feed, keras_private.validation_iterator(phase.model)]
        fixed = [_pipeline_of(feed) for feed in feeds if feed is not None and self._is_fixed(feed)]
        separate = all(are_separate(dataset, other) for other in fixed)
        if not separate or not self.openings.is_counted(dataset):
            self._manager.refuse(
                "a callback iterates, or evaluates on, a tf.data pipeline that reshuffles; use one that does not"
                " reshuffle"
            )

    def _is_fixed(self, feed: Any) -> bool:
        """Whether the order of a feed is restored to a certain opening, whoever else opens the same pipeline."""
        distributed = data_iterator.is_distributed(feed)
        return distributed or feed.steps_per_epoch is not None or not self.openings.is_counted(dataset_of(feed))


def _pipeline_of(feed: Any) -> Any:
    """The pipeline that a feed iterates; of several workers, the one that is distributed."""
    return multi_worker.source_of(dataset_of(feed)) or dataset_of(feed)
