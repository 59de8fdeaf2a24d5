"""Finds the names whose values a loop may carry from one iteration to the next: those that later code may read."""

import dis
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field

from samebits.runner.compat import cpython_private

_ENDS = ("RETURN", "RERAISE", "RAISE")
_WITHOUT_SUCCESSOR = (*_ENDS, "JUMP_FORWARD", "JUMP_BACKWARD")
_ACCESS = re.compile(r"(LOAD|STORE|DELETE)_(?:FAST|NAME|GLOBAL|DEREF|CLOSURE)")
_TO_CLOSURE = ("LOAD_CLOSURE", "LOAD_FAST")
"""How a variable is handed to an inner function; CPython reads such a variable itself with LOAD_DEREF."""
_KEPT_ASIDE = "LOAD_FAST_AND_CLEAR"
"""A comprehension does this with a name that it uses itself."""


@dataclass(slots=True)
class _Step:
    """An instruction: the names that it reads before it writes, those that it writes, and what may follow.

    `ends` is whether the function may end here.
    """

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    next: list[int] = field(default_factory=list)
    ends: bool = False


def live_names(frame: types.FrameType) -> list[str]:
    """The names that code of a frame may read, from the instruction on that it carries out now, before it writes them.

    Functions that read globals are among the names themselves. What the function leaves to others is read at its ends.
    """
    steps = _steps(frame.f_code)
    left = _left_to_others(frame)
    for step in steps.values():
        step.reads |= left if step.ends else set()
    live: dict[int, set[str]] = {offset: set() for offset in steps}
    changed = True
    while changed:
        changed = False
        for offset, step in reversed(steps.items()):
            after = set().union(*(live[target] for target in step.next))
            now = step.reads | (after - step.writes)
            if now != live[offset]:
                live[offset], changed = now, True
    # Of an instruction that Python has specialized, this may be the place of its cache.
    return sorted(live[max(offset for offset in live if offset <= frame.f_lasti)])


def _left_to_others(frame: types.FrameType) -> set[str]:
    """The names that a function assigns and other code may read: globals, and variables that functions share."""
    code, found = frame.f_code, set()
    shared = {*code.co_freevars, *_handed_over(code, frame.f_lasti)}
    for item in dis.get_instructions(code):
        if item.opname == "STORE_GLOBAL" or (item.opname == "STORE_DEREF" and item.argval in shared):
            found.add(str(item.argval))
    return found


def _handed_over(code: types.CodeType, end: int) -> Iterator[str]:
    """Variables of inner functions that were made before the loop; those that it makes itself are not restored."""
    for item in dis.get_instructions(code):
        if item.offset < end and item.opname.startswith(_TO_CLOSURE) and item.opname != _KEPT_ASIDE:
            names = item.argval if isinstance(item.argval, tuple) else (item.argval,)
            yield from (name for name in names if name in code.co_cellvars)


def _steps(code: types.CodeType) -> dict[int, _Step]:
    instructions = list(dis.get_instructions(code))
    handlers = cpython_private.exception_handlers(code)
    found: dict[int, _Step] = {}
    for item, following in zip(instructions, [*instructions[1:], None], strict=True):
        step = found[item.offset] = _accesses(item)
        step.ends = item.opname.startswith(_ENDS)
        if following is not None and not item.opname.startswith(_WITHOUT_SUCCESSOR):
            step.next.append(following.offset)
        if item.opcode in dis.hasjrel or item.opcode in dis.hasjabs:
            step.next.append(item.argval)
        step.next += [target for start, end, target in handlers if start <= item.offset < end]
    for step in found.values():
        step.next = [target for target in step.next if target in found]
    return found


def _accesses(item: dis.Instruction) -> _Step:
    step = _Step()
    if item.opname.startswith(_KEPT_ASIDE):
        return step
    names = item.argval if isinstance(item.argval, tuple) else (item.argval,)
    for kind, name in zip(_kinds(item.opname), names, strict=False):
        if kind == "LOAD" and name not in step.writes:
            step.reads.add(str(name))
        elif kind == "STORE":
            step.writes.add(str(name))
    return step


def _kinds(opname: str) -> Iterator[str]:
    """What an instruction does with each of its names; some do two things at once."""
    return (found.group(1) for found in _ACCESS.finditer(opname))
