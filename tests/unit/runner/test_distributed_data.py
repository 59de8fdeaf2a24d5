"""Data of several workers: a resumed run opens and draws it as the original did."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from samebits.runner.checkpoint.data import distributed_data
from samebits.runner.checkpoint.state.encoding import PathMap, UncapturableError


def _feed(*openings: int) -> Any:
    """A feed that drew so many elements from each opening; the last number has not arrived in its list yet."""
    return SimpleNamespace(openings=[*openings[:-1], 0] if openings else [], used=(openings or (0,))[-1])


def test_an_iterator_that_stays_open_is_no_finished_opening() -> None:
    assert distributed_data.capture(_feed(1, 6, 4), persistent=True) == {"openings": [1, 6]}
    assert distributed_data.capture(_feed(1, 6, 4), persistent=False) == {"openings": [1, 6, 4]}
    assert distributed_data.capture(_feed(), persistent=False) == {"openings": []}


def test_what_was_opened_since_is_opened_and_drawn_again() -> None:
    drawn: list[int] = []

    def opened(_feed: Any) -> Iterator[int]:
        drawn.append(0)
        for number in range(6):
            drawn[-1] += 1
            yield number

    feed = _feed(1)
    distributed_data.restore(feed, {"openings": [1, 6, 7, 0]}, opened, stateless=False)
    # The attempt after the last element finds none.
    assert drawn == [6, 6]
    assert feed.used == 0


def test_a_pipeline_that_begins_the_same_each_time_is_not_read_again() -> None:
    feed = _feed(1)
    distributed_data.restore(feed, {"openings": [1, 6, 6]}, lambda _: pytest.fail("opened"), stateless=True)
    assert (feed.openings, feed.used) == ([1, 6, 6], 6)


def test_data_that_was_opened_otherwise_is_refused() -> None:
    with pytest.raises(UncapturableError, match="opened otherwise"):
        distributed_data.restore(_feed(2), {"openings": [1, 6]}, iter, stateless=True)


def test_addresses_of_workers_are_those_of_the_resumed_run() -> None:
    before, after = PathMap({}), PathMap({})
    before.add({"worker 0": "127.0.0.1:1234", "worker 1": "127.0.0.1:12345"})
    after.add({"worker 0": "127.0.0.1:7", "worker 1": "127.0.0.1:8"})
    saved = before.leave('{"worker": ["127.0.0.1:1234", "127.0.0.1:12345"]}')
    assert after.arrive(saved["text"]) == '{"worker": ["127.0.0.1:7", "127.0.0.1:8"]}'
