"""Values without identity as JSON: floats, exact numbers, dates and paths, each made again of its own class."""

import datetime as dt
import decimal
import fractions
import pathlib
import struct
import time
import uuid
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any

_USUAL_NAN = struct.pack(">d", float("nan"))
_NAN = "nan "
_PATHS = (pathlib.PurePosixPath, pathlib.PureWindowsPath)


def float_text(value: float) -> str:
    """A float as `float.hex` writes it. One that is no number has a sign, and bits of its own, which files show."""
    bits = struct.pack(">d", value)
    return value.hex() if value == value or bits == _USUAL_NAN else _NAN + bits.hex()  # noqa: PLR0124


def float_of(text: str) -> float:
    """The float that `float_text` wrote."""
    if not text.startswith(_NAN):
        return float.fromhex(text)
    found: float = struct.unpack(">d", bytes.fromhex(text.removeprefix(_NAN)))[0]
    return found


def encoded_value(value: Any) -> list[Any] | None:
    """The class and the parts of a value of one of these classes, and of no subclass; None for others."""
    parts = _PARTS.get(type(value))
    found = None if parts is None else parts(value)
    return None if found is None else [type(value).__name__, *found]


def made_value(saved: list[Any]) -> Any:
    """The value that `encoded_value` encoded."""
    name, *parts = saved
    # An allow-list: the name comes from a file.
    return _MADE[name](*parts)


def _zone(zone: dt.tzinfo | None) -> Any:
    """A time zone as JSON; False where it is unknown here."""
    if zone is None:
        return None
    if type(zone) is dt.timezone:
        # The name is left out where it follows from the offset.
        name, offset = zone.tzname(None), zone.utcoffset(None)
        return ["offset", *_delta(offset), None if name == dt.timezone(offset).tzname(None) else name]
    key = zone.key if type(zone) is zoneinfo.ZoneInfo else None
    return False if key is None else ["zone", key]


def _made_zone(saved: list[Any] | None) -> dt.tzinfo | None:
    if saved is None:
        return None
    kind, *parts = saved
    if kind == "zone":
        return zoneinfo.ZoneInfo(parts[0])
    *offset, name = parts
    made = dt.timedelta(*offset)
    return dt.timezone(made) if name is None else dt.timezone(made, name)


def _delta(value: dt.timedelta) -> list[Any]:
    return [value.days, value.seconds, value.microseconds]


def _moment(value: dt.datetime | dt.time) -> list[Any] | None:
    zone = _zone(value.tzinfo)
    return None if zone is False else [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, zone]


def _made_moment(kind: Any) -> Callable[..., Any]:
    return lambda text, fold, zone: kind.fromisoformat(text).replace(fold=fold, tzinfo=_made_zone(zone))


_PARTS: Mapping[type, Callable[[Any], list[Any] | None]] = {
    dt.datetime: _moment,
    dt.time: _moment,
    dt.date: lambda value: [value.isoformat()],
    dt.timedelta: _delta,
    decimal.Decimal: lambda value: [str(value)],
    fractions.Fraction: lambda value: [value.numerator, value.denominator],
    uuid.UUID: lambda value: [value.hex, value.is_safe.name],
    time.struct_time: lambda value: [list(value), value.tm_zone, value.tm_gmtoff],
    # A usual path is saved with its folder replaced.
    **{kind: lambda value: [str(value)] for kind in _PATHS},
}
_MADE: Mapping[str, Callable[..., Any]] = {
    "datetime": _made_moment(dt.datetime),
    "time": _made_moment(dt.time),
    "date": dt.date.fromisoformat,
    "timedelta": dt.timedelta,
    "Decimal": decimal.Decimal,
    "Fraction": fractions.Fraction,
    "UUID": lambda digits, safe: uuid.UUID(digits, is_safe=uuid.SafeUUID[safe]),
    "struct_time": lambda parts, zone, offset: time.struct_time(parts, {"tm_zone": zone, "tm_gmtoff": offset}),
    **{kind.__name__: kind for kind in _PATHS},
}
TIMES = frozenset({"datetime", "time", "date", "timedelta", "struct_time"})
"""Names of the classes that hold times."""
