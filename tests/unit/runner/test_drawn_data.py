"""Which generators the data advanced, when a run resumes within an epoch."""

from typing import Any

import pytest

from samebits.runner.checkpoint.drawn_data import drawn_by_data
from samebits.runner.checkpoint.process_state.library_state import STREAMS
from samebits.runner.checkpoint.state.encoding import UncapturableError


def _roots(numpy: int, **streams: str) -> dict[str, Any]:
    return {
        "random generator of NumPy": {"generator": numpy, "#": numpy},
        "names of Keras": {"dict": [["dense", numpy]]},
        STREAMS: {"dict": [[name, state] for name, state in streams.items()]},
    }


def test_streams_are_told_from_each_other() -> None:
    """The stream of the data keeps its state; that of the model, which did not run again, is restored."""
    drawn = drawn_by_data(_roots(1, model="0"), _roots(1, model="0", data="3"), _roots(1, model="9", data="3"))
    assert (drawn.generators, dict(drawn.streams), drawn.unsure) == (frozenset(), {"data": "3"}, ())
    drawn.check()


def test_a_generator_that_the_data_alone_uses_is_certain() -> None:
    drawn = drawn_by_data(_roots(1), _roots(4), _roots(4))
    assert (drawn.generators, drawn.unsure) == (frozenset({"random generator of NumPy"}), ())


@pytest.mark.parametrize(
    ("now", "saved", "name"),
    [
        (_roots(4), _roots(5), "random generator of NumPy"),
        (_roots(1, data="3"), _roots(1, data="4"), "data"),
        (_roots(1, data="3"), _roots(1), "data"),
    ],
)
def test_another_state_than_the_data_reaches_needs_a_replay(now: Any, saved: Any, name: str) -> None:
    drawn = drawn_by_data(_roots(1), now, saved)
    assert drawn.unsure == (name,)
    with pytest.raises(UncapturableError, match=f"draws from {name}, .*resume without --trust-checkpoint"):
        drawn.check()


def test_a_run_without_streams() -> None:
    """A root that was never used is in no checkpoint."""
    assert drawn_by_data({}, {}, {}).streams == {}
