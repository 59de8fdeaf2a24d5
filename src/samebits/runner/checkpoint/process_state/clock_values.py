"""Recognizes values that a script takes from the clock, such as the seconds of an epoch: they never repeat."""

import dis
import functools
import itertools
import os
import re
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from samebits.runner.checkpoint.state.code_inspection import is_ours
from samebits.runner.checkpoint.state.plain_values import TIMES
from samebits.runner.checkpoint.state.state_comparison import StateDifference

_CLOCKS = frozenset(
    {
        *("time", "monotonic", "perf_counter", "process_time", "thread_time", "now", "utcnow", "today"),
        *("time_ns", "monotonic_ns", "perf_counter_ns", "process_time_ns", "thread_time_ns"),
    }
)
_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
_NANOSECONDS = 10**12
"""A smaller integer is a counter, not a time in nanoseconds."""


def holds_time(found: StateDifference, code: Path) -> bool:
    """Whether a value that differs is a time: a function of its class, or of the script, reads a clock and names it.

    `code` is the folder of the script's modules.
    """
    if not _may_be_time(found.one, found.other):
        return False
    functions = list(_functions_of(found.holders[-1]) if found.holders else _functions_of_script(str(code)))
    # A value in a list or a dict is named by the attribute or the global that holds it; an argument has no name.
    names = {name for name in found.attributes[-1:] if name.isidentifier()}
    return any(_reads_clock(function) and names <= _names_in(function) for function in functions)


def _may_be_time(one: Any, other: Any) -> bool:
    """Whether both values are of a kind in which a script keeps times."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() - {"#"} == other.keys() - {"#"} == {"float"}:
            return True
        return all(type(item.get("scalar")) is list and item["scalar"][0] in TIMES for item in (one, other))
    return all(type(item) is int and abs(item) > _NANOSECONDS for item in (one, other))


def _functions_of(kind: str) -> Iterator[types.CodeType]:
    """The code of a class and its bases, by its encoded name."""
    module, _, path = kind.partition(" ")[0].partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    for base in getattr(found, "__mro__", ()):
        yield from (code for item in vars(base).values() for code in _code_of(item))


def names_used(names: frozenset[str], folder: str) -> frozenset[str]:
    """Which of these names code of the script's modules uses; all of them where some code cannot be read."""
    code = list(itertools.chain.from_iterable(_code_of_script(folder)))
    return names if None in code else frozenset(name for item in code if item for name in item.co_names) & names


def text_used(pattern: re.Pattern[str], folder: str) -> bool:
    """Whether a text of the script's modules holds what the pattern finds, or may do so as it cannot be read."""
    code = itertools.chain.from_iterable(_code_of_script(folder))
    return any(item is None or any(map(pattern.search, filter(_is_text, item.co_consts))) for item in code)


def _is_text(value: object) -> bool:
    return type(value) is str


def _functions_of_script(folder: str) -> Iterator[types.CodeType]:
    """All code of the script's modules that can be read: their functions, and their own lines."""
    yield from (item for code in _code_of_script(folder) for item in code if item is not None)


def _code_of_script(folder: str) -> Iterator[tuple[types.CodeType | None, ...]]:
    """The code of each module of the script; None for one that is compiled, in an archive or removed."""
    for name, module in list(sys.modules.items()):
        if module is not None and is_ours(name, folder):
            yield _whole_code(getattr(module, "__file__", None), is_script=name == "__main__")


def _whole_code(path: str | None, *, is_script: bool) -> tuple[types.CodeType | None, ...]:
    if path is not None and (is_script or path.endswith(".py")):
        with suppress(OSError, ValueError):
            found = os.stat(path)
            return _compiled(path, found.st_size, found.st_mtime_ns)
    return (None,)


@functools.cache
def _compiled(path: str, _size: int, _modified: int) -> tuple[types.CodeType | None, ...]:
    """All code of a file, which is compiled once for all calls of `fit`."""
    # SyntaxError: the file is no longer the one that was imported.
    with warnings.catch_warnings(action="ignore"), suppress(OSError, SyntaxError, ValueError, RecursionError):
        return tuple(_nested(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)))
    return (None,)


def _code_of(item: Any) -> Iterator[types.CodeType]:
    function = getattr(item, "__func__", None) or getattr(item, "fget", None) or item
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType):
        yield from _nested(code)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _reads_clock(code: types.CodeType) -> bool:
    """Whether a clock is called by its name, such as `time.time` or `perf_counter`."""
    steps = list(dis.get_instructions(code))
    for instruction, following in itertools.zip_longest(steps, steps[1:]):
        is_attribute = instruction.opname.startswith(_ATTRIBUTE)
        # `time` is the module where an attribute of it follows.
        is_module = following is not None and following.opname.startswith(_ATTRIBUTE)
        is_function = instruction.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME")) and not is_module
        if (is_attribute or is_function) and instruction.argval in _CLOCKS:
            return True
    return False


def _names_in(code: types.CodeType) -> set[str]:
    return {*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars}
