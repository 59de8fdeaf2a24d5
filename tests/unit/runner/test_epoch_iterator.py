"""The steps of an epoch, as Keras gives them in the tested versions: with the last step of a call, or without."""

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from samebits.runner.compat.epoch_iterator import FeedHooks, install_feed
from samebits.runner.compat.patches import Patches

_MODULE = "keras.src.backend.tensorflow.trainer"


class _Keras:
    """Ten batches, two to a call."""

    steps_per_execution = 2
    yields_ends = True

    def _enumerate_iterator(self) -> Iterator[tuple[Any, ...]]:
        batches = iter(range(10))
        for step in range(0, 10, self.steps_per_execution):
            yield (step, step + 1, batches) if self.yields_ends else (step, batches)


@pytest.mark.parametrize("yields_ends", [True, False], ids=["from 3.10 on", "up to 3.9"])
def test_skipped_steps_are_drawn_and_the_others_are_given_as_keras_does(
    yields_ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("keras", "keras.src", "keras.src.backend", "keras.src.backend.tensorflow"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    trainer: Any = types.ModuleType(_MODULE)
    trainer.TFEpochIterator = type("TFEpochIterator", (_Keras,), {"yields_ends": yields_ends})
    monkeypatch.setitem(sys.modules, _MODULE, trainer)
    monkeypatch.setattr(sys.modules["keras.src.backend.tensorflow"], "trainer", trainer, raising=False)
    nothing = {name: lambda *_: None for name in ("making", "made", "begun", "read", "skipped", "source")}
    with Patches() as patches:
        install_feed(patches, FeedHooks(**nothing))  # type: ignore[arg-type]
        feed = trainer.TFEpochIterator()
        feed.skip = 4
        given = [(*steps, next(batches), next(batches)) for *steps, batches in feed._enumerate_iterator()]
    ends = [(4, 5), (6, 7), (8, 9)] if yields_ends else [(4,), (6,), (8,)]
    assert given == [(*steps, steps[0], steps[0] + 1) for steps in ends]
    assert (feed.used, feed.drawn) == (10, 3)
