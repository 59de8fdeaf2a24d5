"""Recognizes values that a script takes from the clock, such as the seconds of an epoch: they never repeat."""

import dis
import itertools
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from samebits.runner.checkpoint.process_state.script_code import readable_code
from samebits.runner.checkpoint.state.code_inspection import code_objects
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
    functions = list(_functions_of(found.holders[-1]) if found.holders else readable_code(str(code)))
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


def _code_of(item: Any) -> Iterator[types.CodeType]:
    function = getattr(item, "__func__", None) or getattr(item, "fget", None) or item
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType):
        yield from code_objects(code)


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
