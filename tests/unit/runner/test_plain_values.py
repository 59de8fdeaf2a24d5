"""Exact numbers, dates and paths come back from JSON as what they were."""

import datetime as dt
import decimal
import fractions
import json
import math
import pathlib
import struct
import time
import uuid
from typing import Any

import pytest

from samebits.runner.checkpoint.state.plain_values import encoded_value, float_of, float_text, made_value

VALUES = [
    dt.datetime(2026, 11, 28, 17, 2, 3, 4),  # noqa: DTZ001
    dt.datetime(2026, 10, 25, 2, 30, tzinfo=dt.UTC, fold=1),
    dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-1), "X")),
    dt.time(1, 2, 3, 4),
    dt.date(2026, 11, 28),
    dt.timedelta(-1, 3, 4),
    decimal.Decimal("-sNaN12"),
    decimal.Decimal("1.50E+9"),
    fractions.Fraction(-1, 3),
    uuid.UUID(int=7),
    time.localtime(0),
    pathlib.PurePosixPath("/a/b"),
    pathlib.PureWindowsPath("c:/x"),
]


class Moment(dt.datetime):
    """A class of a script, which may hold more."""


class Zone(dt.tzinfo):
    """A time zone of a script."""

    def utcoffset(self, _: dt.datetime | None) -> None:
        return None

    dst = tzname = utcoffset


def bits(value: float) -> bytes:
    return struct.pack(">d", value)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_is_made_again(value: Any) -> None:
    found = made_value(json.loads(json.dumps(encoded_value(value))))
    assert (type(found), repr(found)) == (type(value), repr(value))


def test_a_time_keeps_its_zone() -> None:
    found = made_value(json.loads(json.dumps(encoded_value(time.localtime(0)))))
    assert (found.tm_zone, found.tm_gmtoff) == (time.localtime(0).tm_zone, time.localtime(0).tm_gmtoff)


@pytest.mark.parametrize(
    "value", [Moment(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=Zone()), pathlib.Path("/a"), 1, "a", None]
)
def test_others_are_left_to_others(value: Any) -> None:
    assert encoded_value(value) is None


@pytest.mark.parametrize(
    "raw", ["3ff8000000000000", "8000000000000000", "7ff8000000000000", "fff8000000000000", "7ff0000000000001"]
)
def test_a_float_keeps_its_bits(raw: str) -> None:
    value: float = struct.unpack(">d", bytes.fromhex(raw))[0]
    assert bits(float_of(float_text(value))).hex() == raw


def test_usual_floats_are_written_as_before() -> None:
    assert [float_text(value) for value in (1.5, math.inf, math.nan)] == ["0x1.8000000000000p+0", "inf", "nan"]
