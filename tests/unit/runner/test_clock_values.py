"""Values that a script takes from the clock are recognized; they differ in every run."""

import datetime as dt
import decimal
import time
from pathlib import Path
from typing import Any

import pytest

from samebits.runner.checkpoint.process_state.clock_values import holds_time
from samebits.runner.checkpoint.state.plain_values import encoded_value
from samebits.runner.checkpoint.state.state_comparison import StateDifference


class Timer:
    """A callback that keeps times, and a price."""

    def tick(self) -> None:
        self.last, self.lasted, self.price = dt.datetime.now(dt.UTC), time.monotonic(), decimal.Decimal(1)


@pytest.mark.parametrize(
    ("attribute", "one", "other", "expected"),
    [
        ("last", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), True),
        ("last", dt.timedelta(1), dt.timedelta(2), True),
        ("other", dt.timedelta(1), dt.timedelta(2), False),
        ("price", decimal.Decimal(1), decimal.Decimal(2), False),
    ],
)
def test_dates_that_a_class_takes_from_the_clock(
    tmp_path: Path, attribute: str, one: Any, other: Any, *, expected: bool
) -> None:
    difference = StateDifference(
        name=attribute,
        one={"scalar": encoded_value(one)},
        other={"scalar": encoded_value(other)},
        holders=(f"{__name__}:Timer",),
        attributes=(attribute,),
    )
    assert holds_time(difference, tmp_path) == expected
