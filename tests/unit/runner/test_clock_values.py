"""What the code of a script's modules uses, also where a module has no source that Python can compile."""

import datetime as dt
import decimal
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from samebits.runner.checkpoint.process_state import clock_values
from samebits.runner.checkpoint.process_state.clock_values import holds_time, names_used, text_used
from samebits.runner.checkpoint.process_state.open_descriptors import LISTED
from samebits.runner.checkpoint.state.plain_values import encoded_value
from samebits.runner.checkpoint.state.state_comparison import StateDifference

_NAMES = frozenset({"nice"})


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the only module of the script besides `__main__`."""
    monkeypatch.setitem(sys.modules, "__main__", _module(tmp_path / "train"))
    (tmp_path / "train").write_text("x = 1\n")
    return tmp_path


def _module(path: Path) -> types.ModuleType:
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    return module


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("own.py", b"x = 1\n", False),
        ("own.py", b"def f(os):\n    return lambda: os.nice(1)\n", True),
        ("own.py", b"x = '\\d'\n", False),
        ("own.py", b"x = '\0'\n", True),
        ("own.py", b"x = (\n", True),
        ("own.so", b"\x7fELF\0", True),
        ("own.pyc", b"\0", True),
        ("own.py", None, True),
    ],
)
def test_a_module_that_cannot_be_read_may_use_every_name(
    script: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, expected: bool
) -> None:
    monkeypatch.setitem(sys.modules, "own", _module(script / name))
    if content is not None:
        (script / name).write_bytes(content)
    with warnings.catch_warnings(action="error"):
        assert names_used(_NAMES, str(script)) == (_NAMES if expected else frozenset())


def test_a_module_is_compiled_once(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "own", _module(script / "own.py"))
    (script / "own.py").write_text("x = 1\n")
    before = clock_values._compiled.cache_info().misses
    for _ in range(3):
        assert not names_used(_NAMES, str(script))
    assert clock_values._compiled.cache_info().misses == before + 2
    (script / "own.py").write_text("import os\nos.nice(1)\n")
    assert names_used(_NAMES | {"other"}, str(script)) == _NAMES


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"def f(os):\n    return lambda: os.listdir('/proc/self/fd')\n", True),
        (b"x = f'/proc/{1}/fd'\n", True),
        (b"x = 'fd', 1, None\n", False),
        (b"x = 'data/fd_train.csv'\n", False),
        (b"x = '\0'\n", True),
    ],
)
def test_a_text_of_the_script_is_found(
    content: bytes, expected: bool, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "own", _module(script / "own.py"))
    (script / "own.py").write_bytes(content)
    assert text_used(LISTED, str(script)) == expected


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
