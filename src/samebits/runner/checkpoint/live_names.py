"""Finds the names whose values a loop may carry from one iteration to the next: those that later code may read."""

import dis
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field

from samebits.runner.compat import cpython_private

_WITHOUT_SUCCESSOR = ("RETURN", "RERAISE", "RAISE", "JUMP_FORWARD", "JUMP_BACKWARD")
_ACCESS = re.compile(r"(LOAD|STORE|DELETE)_(?:FAST|NAME|GLOBAL|DEREF|CLOSURE)")
_KEPT_ASIDE = "LOAD_FAST_AND_CLEAR"
"""A comprehension does this with a name that it uses itself."""


@dataclass(slots=True)
class _Step:
    """An instruction: the names that it reads before it writes, those that it writes, and what may follow."""

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    next: list[int] = field(default_factory=list)


def live_names(frame: types.FrameType) -> list[str]:
    """The names that code of a frame may read, from the instruction on that it carries out now, before it writes them.

    Functions that read globals are among the names themselves.
    """
    steps = _steps(frame.f_code)
    live: dict[int, set[str]] = {offset: set() for offset in steps}
    changed = True
    while changed:
        changed = False
        for offset, step in reversed(steps.items()):
            after = set().union(*(live[target] for target in step.next))
            now = step.reads | (after - step.writes)
            if now != live[offset]:
                live[offset], changed = now, True
    return sorted(live.get(frame.f_lasti, set()))


def _steps(code: types.CodeType) -> dict[int, _Step]:
    instructions = list(dis.get_instructions(code))
    handlers = cpython_private.exception_handlers(code)
    found: dict[int, _Step] = {}
    for item, following in zip(instructions, [*instructions[1:], None], strict=True):
        step = found[item.offset] = _accesses(item)
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
