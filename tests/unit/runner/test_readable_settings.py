"""Settings of the process that a script could keep a value in: a change of each is seen, and named."""

import contextvars
import csv
import decimal
import faulthandler
import gc
import io
import json
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import sysconfig
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import RecordError
from samebits.core.jsonio import differing_names
from samebits.runner.checkpoint.process_state import warning_filters
from samebits.runner.checkpoint.process_state.readable_settings import (
    held_objects,
    settings_from_outside,
    settings_of_python,
)

_CORE = resource.RLIMIT_CORE
_BLOCK = ({signal.SIGUSR1},)


def _limit() -> Iterator[None]:
    before = resource.getrlimit(_CORE)
    resource.setrlimit(_CORE, (0 if before[0] else 1, before[1]))
    yield
    resource.setrlimit(_CORE, before)


def _changed(do: Callable[[], object], undo: Callable[[], object]) -> Callable[[], Iterator[None]]:
    def change() -> Iterator[None]:
        do()
        yield
        undo()

    return change


def _set(setter: Callable[[int], object], getter: Callable[[], int]) -> Callable[[], Iterator[None]]:
    def change() -> Iterator[None]:
        before = getter()
        setter(before + 1)
        yield
        setter(before)

    return change


_MASK = os.umask(0o22)
os.umask(_MASK)
_CSV = csv.field_size_limit()
_MAIN = threading.main_thread().name

CHANGES: dict[str, Callable[[], Iterator[None]]] = {
    "the recursion limit": _set(sys.setrecursionlimit, sys.getrecursionlimit),
    "the switch interval of threads": _changed(
        lambda: sys.setswitchinterval(0.5), lambda: sys.setswitchinterval(0.005)
    ),
    "the settings of the garbage collector": _set(gc.set_threshold, lambda: gc.get_threshold()[0]),
    "the callbacks of the garbage collector": _changed(lambda: gc.callbacks.append(print), gc.callbacks.pop),
    "the limit of digits in texts of integers": _set(sys.set_int_max_str_digits, sys.get_int_max_str_digits),
    "sys.argv": _changed(lambda: sys.argv.append("x"), sys.argv.pop),
    "sys.path": _changed(lambda: sys.path.append("/x"), sys.path.pop),
    "the name of the main thread": _changed(
        lambda: setattr(threading.main_thread(), "name", "counted"),
        lambda: setattr(threading.main_thread(), "name", _MAIN),
    ),
    "faulthandler": _changed(
        faulthandler.disable if faulthandler.is_enabled() else faulthandler.enable,
        faulthandler.enable if faulthandler.is_enabled() else faulthandler.disable,
    ),
    "the file mode creation mask (umask)": _changed(lambda: os.umask(_MASK ^ 1), lambda: os.umask(_MASK)),
    "blocked signals": _changed(
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, *_BLOCK),
        lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, *_BLOCK),
    ),
    "the handler of signal 10": _changed(
        lambda: signal.signal(signal.SIGUSR1, print), lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    ),
    "the context of decimal": _set(
        lambda number: setattr(decimal.getcontext(), "prec", number), lambda: decimal.getcontext().prec
    ),
    "settings of csv": _changed(lambda: csv.field_size_limit(_CSV + 1), lambda: csv.field_size_limit(_CSV)),
    "the default timeout of sockets": _changed(
        lambda: socket.setdefaulttimeout(1), lambda: socket.setdefaulttimeout(None)
    ),
    "the stack size of threads": _changed(lambda: threading.stack_size(1 << 20), lambda: threading.stack_size(0)),
    "the level below which logging is disabled": _changed(
        lambda: logging.disable(7), lambda: logging.disable(logging.NOTSET)
    ),
    "settings of the logger samebits.held": _changed(
        lambda: logging.getLogger("samebits.held").setLevel(7), lambda: logging.getLogger("samebits.held").setLevel(0)
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named(name: str) -> None:
    change, before = CHANGES[name](), settings_of_python()
    next(change)
    try:
        changed = differing_names(before, settings_of_python())
    finally:
        next(change, None)
    assert changed == [name]
    assert settings_of_python() == before


def test_a_library_may_give_a_new_logger_a_handler_that_does_nothing() -> None:
    before = settings_of_python()
    logging.getLogger("samebits.imported").addHandler(logging.NullHandler())
    assert settings_of_python() == before


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    kept = logging.root.handlers[:]
    logging.root.handlers[:] = []
    yield logging.root
    logging.root.handlers[:] = kept


def test_the_first_line_of_a_log_is_no_change(root_logger: logging.Logger) -> None:
    before = settings_of_python()
    logging.basicConfig(format="%(message)s")
    assert root_logger.handlers
    root_logger.addHandler(type("ABSLHandler", (logging.Handler,), {"__module__": "absl.logging"})())
    assert settings_of_python() == before


class _Keeping(logging.StreamHandler):  # type: ignore[type-arg]
    pass


def _with_value() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.seen = 1  # type: ignore[attr-defined]
    return handler


@pytest.mark.parametrize("make", [_Keeping, lambda: logging.StreamHandler(io.StringIO()), _with_value])
def test_a_handler_that_may_keep_values_is_a_change(
    root_logger: logging.Logger, make: Callable[[], logging.Handler]
) -> None:
    before = settings_of_python()
    root_logger.addHandler(make())
    assert differing_names(before, settings_of_python()) == ["settings of the logger root"]


@pytest.fixture
def alone() -> Iterator[logging.Logger]:
    """A logger whose lines reach no other one's handlers, such as those of pytest."""
    logger = logging.getLogger("samebits.alone")
    logger.propagate = False
    yield logger
    logger.handlers[:] = []
    logger.propagate = True


class _Collecting(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class _Numbering(logging.Formatter):
    count = 0

    def format(self, record: logging.LogRecord) -> str:
        self.count += 1
        return f"{self.count} {record.getMessage()}"


class _Counting(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.held = [0]

    def filter(self, record: logging.LogRecord) -> bool:
        self.held[0] += len(record.getMessage())
        return True


class _InSlots:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def filter(self, _: logging.LogRecord) -> bool:
        self.count += 1
        return True


def _formatted() -> logging.Handler:
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(_Numbering())
    return handler


def _filtered(counting: Any) -> logging.Handler:
    handler = logging.StreamHandler(io.StringIO())
    handler.addFilter(counting)
    return handler


def _closure() -> Any:
    count = 0

    def keep(_: logging.LogRecord) -> bool:
        nonlocal count
        count += 1
        return True

    return keep


@pytest.mark.parametrize(
    "make",
    [
        _Collecting,
        _formatted,
        lambda: _filtered(_Counting()),
        lambda: _filtered(_Counting().filter),
        lambda: _filtered(_InSlots()),
        lambda: _filtered(_closure()),
    ],
)
def test_what_a_log_collects_is_a_change(alone: logging.Logger, make: Callable[[], logging.Handler]) -> None:
    """No checkpoint holds it: a resumed run would collect the lines of its own epochs only."""
    alone.handlers[:] = [make()]  # without those of pytest
    before = settings_of_python()
    alone.warning("a line")
    assert differing_names(before, settings_of_python()) == ["settings of the logger samebits.alone"]


def test_plain_handlers_may_print(alone: logging.Logger, tmp_path: Path) -> None:
    plain = type("Plain", (logging.StreamHandler,), {})(io.StringIO())
    with closing(logging.FileHandler(tmp_path / "log")) as handler:
        alone.handlers[:] = [plain, handler]
        before = settings_of_python()
        alone.warning("a line")
        assert settings_of_python() == before


def test_the_first_use_of_multiprocessing_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    default, name = multiprocessing.get_all_start_methods()[0], "the start method of multiprocessing"
    for set_to, seen in ((None, default), (default, default), ("spawn", "spawn")):
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda value=set_to, **_: value)
        assert settings_of_python()[name] == seen


def test_the_stack_size_of_threads_stays() -> None:
    threading.stack_size(1 << 20)
    settings_of_python()
    assert threading.stack_size(0) == 1 << 20


def test_folders_of_libraries_may_be_searched() -> None:
    before = settings_of_python()
    sys.path.append(f"{sysconfig.get_path('purelib')}/setuptools/_vendor")
    try:
        assert settings_of_python() == before
    finally:
        sys.path.pop()


def test_what_others_may_set_is_compared_where_the_script_sets_it() -> None:
    change, name = _limit(), "the limit RLIMIT_CORE"
    before = settings_from_outside({"setrlimit"})
    next(change)
    try:
        assert differing_names(before, settings_from_outside({"setrlimit"})) == [name]
    finally:
        next(change, None)
    assert settings_from_outside({"print"}) == {}
    assert settings_from_outside({"sched_setaffinity"}).keys() == {"the cores that the process may use"}
    assert settings_from_outside({"nice"}).keys() == {"the priority of the process"}


def test_a_waiting_termination_is_no_change() -> None:
    """While a SIGTERM waits for a checkpoint, samebits itself handles the alarm."""
    free = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    before = settings_of_python()
    ours = types.FunctionType((lambda *_: None).__code__, {"__name__": "samebits.runner.process.signals"})
    signal.signal(signal.SIGALRM, ours)
    try:
        assert settings_of_python() == before
    finally:
        signal.signal(signal.SIGALRM, free)


def test_objects_that_the_interpreter_holds_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    variable, box = contextvars.ContextVar[int]("held"), object()
    variable.set(3)
    made = types.ModuleType("made_by_hand")
    made.number = 4  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_by_hand", made)
    # A package written in C makes its inner modules itself.
    inner = types.ModuleType("json.inner")
    inner.number = 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "json.inner", inner)
    monkeypatch.setitem(sys.modules, "box", box)
    monkeypatch.setattr(sys, "excepthook", box)
    found = dict(held_objects())
    assert found["the context variable held"] == 3
    assert found["made_by_hand.number"] == 4
    assert "json.inner.number" not in found
    assert found["sys.modules['box']"] is found["sys.excepthook"] is box


def test_filters_of_warnings_come_back() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="a.*b", category=FutureWarning, module="c")
        saved, before = warning_filters.capture(), list(warnings.filters)
        warnings.resetwarnings()
        warning_filters.restore({})
        assert warnings.filters == []
        warning_filters.restore(saved)
        assert warnings.filters == before
        with pytest.raises(FutureWarning):
            warnings.warn_explicit("a to b", FutureWarning, "file", 1, module="c")


@pytest.fixture
def filters() -> Iterator[list[Any]]:
    with warnings.catch_warnings():
        yield warnings.filters  # type: ignore[misc]
        warning_filters.restore({"filters": "[]"})


def test_a_filter_waits_for_its_library(filters: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    library = types.ModuleType("late_library")
    library.Late = type("Late", (Warning,), {"__module__": "late_library"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "late_library", library)
    warnings.simplefilter("ignore", library.Late)
    warnings.simplefilter("error", FutureWarning)
    saved = warning_filters.capture()
    monkeypatch.delitem(sys.modules, "late_library")
    warning_filters.restore(saved)
    assert len(filters) == len(json.loads(saved["filters"])) - 1
    assert warning_filters.capture() == saved
    warnings.simplefilter("ignore", library.Late)
    assert warning_filters.capture() == saved
    warnings.simplefilter("ignore", UserWarning)
    assert len(json.loads(warning_filters.capture()["filters"])) == len(json.loads(saved["filters"])) + 1
    warnings.resetwarnings()
    assert warning_filters.capture() == {"filters": "[]"}


_USER = {"class": ["builtins", "UserWarning"]}


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[[]]", "3", "[3]", '{"a": 1}', None, 3, "{}", '""', "[" * 100_000),
        *(
            json.dumps([item])
            for item in (
                ["error", None, {"class": [5, 6]}, None],
                ["error", None, {"class": [[], "a"]}, None, 0],
                ["error", None, {"class": [5, 6]}, None, 0],
                ["error", None, {"class": "ab"}, None, 0],
                ["error", None, {"class": ["builtins"]}, None, 0],
                ["error", None, None, None, 0],
                ["error", {"pattern": "(", "flags": 0}, _USER, None, 0],
                ["error", {"pattern": "a", "flags": "b"}, _USER, None, 0],
                ["error", {"pattern": 3, "flags": 0}, _USER, None, 0],
                ["error", {"pattern": "a"}, _USER, None, 0],
                ["error", [1], _USER, None, 0],
                ["error", None, _USER, 3, 0],
                ["boom", None, _USER, None, 0],
                [["error"], None, _USER, None, 0],
                ["error", None, _USER, None, "0"],
                ["error", None, _USER, None, -1],
                ["error", None, _USER, None, True],
            )
        ),
    ],
)
def test_malformed_filters_are_refused(filters: list[Any], text: Any) -> None:
    before = filters[:]
    with pytest.raises(RecordError, match=r"^the filters of warnings are malformed"):
        warning_filters.restore({"filters": text})
    assert filters == before
