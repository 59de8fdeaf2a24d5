"""Notices where a script takes randomness that no seed reaches: the operating system's, or an unseeded generator's.

Whatever asks for it in Python, NumPy's generators too, comes through a few functions. Who called is read from the
stack, only then; a run that takes none pays nothing. Libraries' own needs, as for names of temporary files, are not
the script's.
"""

import ast
import functools
import inspect
import json
import linecache
import os
import random
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NoReturn

from samebits.core.environment import EntropyUse
from samebits.runner.compat import cpython_private, tensorflow_private
from samebits.runner.compat.patches import Patches
from samebits.runner.process.console import log

_DOORS = frozenset({"random", "secrets", "uuid", __name__})
"""Modules whose own calls are their callers'."""

_RESTORING = frozenset({"_pickle", "cloudpickle", "copy", "pickle"})
"""Modules that make a generator without a seed, only to give it a state."""

_AUTOGRAPH = f"{os.sep}autograph{os.sep}"
_MAX_USES = 100  # places that are recorded
_OF_A_CHILD = 1000  # calls that a forked process tells of

CallSite = tuple[str, int, str]
"""File, line, and the call as it is written."""


class EntropyMonitor:
    """Watches the code under a folder. `stop` raises in the script, and is called where the run is strict."""

    def __init__(self, code: Path, *, stop: Callable[[str], NoReturn] | None = None) -> None:
        self._code = os.path.join(code, "")
        self._stop = stop
        self._process = os.getpid()
        self._counted: Counter[CallSite] = Counter()
        self._notes = os.memfd_create("entropy")  # shared with processes that are forked off the script's

    def install(self, patches: Patches) -> None:
        """Put a watch on the doors; before the script is imported, and after TensorFlow is."""
        doors = ((os, "urandom"), (os, "getrandom"), cpython_private.entropy_location(), (uuid, "uuid1"))
        for module, name in doors:
            patches.wrap((module, name), functools.partial(self._watched, module=module.__name__, name=name))
        patches.wrap((random.Random, "seed"), functools.partial(self._unless_given, position=1, name="Random.seed"))
        patches.wrap((random, "seed"), functools.partial(self._unless_given, position=0, name="seed"))

    def found(self) -> list[EntropyUse]:
        """Every place, in the order of the lines."""
        counted = Counter(self._counted)
        with suppress(OSError):  # the script may have closed it
            size = os.fstat(self._notes).st_size
            counted.update(tuple(json.loads(line)) for line in os.pread(self._notes, size, 0).splitlines())
        places = sorted(
            EntropyUse(path=path, line=line, call=call, times=times) for (path, line, call), times in counted.items()
        )
        return places[:_MAX_USES]

    def check(self) -> None:
        """Raise SettingError where the run is strict and a process that the script forked off took some."""
        if self._stop is not None:
            for taken in self.found():
                self._stop(_strictly(str(taken)))

    def _watched(self, original: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def watched(*given: Any, **named: Any) -> Any:
            self._look()
            return original(*given, **named)

        return _named(watched, module, name)

    def _unless_given(self, original: Callable[..., Any], position: int, name: str) -> Callable[..., Any]:
        """Seeding with nothing is what counts."""

        @functools.wraps(original)
        def seed(*given: Any, **named: Any) -> Any:
            if (given[position] if len(given) > position else named.get("a")) is None:
                self._look()
            return original(*given, **named)

        return _named(seed, "random", name)

    def _look(self) -> None:
        """Note it if the script asked; raises SettingError then where the run is strict."""
        place = _caller(inspect.currentframe(), self._code)
        if place is None:
            return
        text = "{}:{}: {}".format(*place)
        if place not in self._counted and self._stop is None:
            log(f"{text} takes randomness that no seed reaches; what follows from it will not repeat")
        self._counted[place] += 1
        if os.getpid() != self._process and self._counted[place] <= _OF_A_CHILD:
            with suppress(OSError):  # the script may have closed it
                os.write(self._notes, (json.dumps(place) + "\n").encode())
        if self._stop is not None:
            self._stop(_strictly(text))


def _strictly(place: str) -> str:
    return f"{place} takes randomness that no seed reaches, and the run is strict; give it a seed, or drop --strict"


def _named(function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """Under the name by which it is found, so that it can be pickled."""
    function.__module__, function.__qualname__ = module, name
    return function


def _caller(frame: FrameType | None, code: str) -> CallSite | None:
    """Where in the script a call came from; None where it was a library's own, or is seeded after all."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(code):
            line, text = _words(frame.f_code, frame.f_lasti, frame.f_lineno)
            return None if _has_a_seed(text, frame) else (file.removeprefix(code), line, text.partition("\n")[0])
        if "__autograph_generated_file" in file:
            written = tensorflow_private.original_line(file, frame.f_lineno)
            if written is None or not written[0].startswith(code):
                return None
            return written[0].removeprefix(code), written[1], linecache.getline(*written).strip()
        carried = frame.f_globals.get("__name__") in _DOORS or file.startswith("<") or _AUTOGRAPH in file
        if not carried:
            return None
        frame = frame.f_back
    return None


@functools.lru_cache(maxsize=1000)
def _words(code: CodeType, instruction: int, line: int) -> tuple[int, str]:
    """The call that goes on, as it is written, and the line that it begins in."""
    first, last, begin, end = list(code.co_positions())[instruction // 2]
    if first is None or last is None or begin is None or end is None:
        return line, linecache.getline(code.co_filename, line).strip()
    lines = [linecache.getline(code.co_filename, number).encode() for number in range(first, last + 1)]
    lines[-1] = lines[-1][:end]  # columns are counted in bytes
    lines[0] = lines[0][begin:]
    return first, b"".join(lines).decode(errors="replace").strip()


def _has_a_seed(text: str, frame: FrameType) -> bool:
    """Whether a call makes a generator that is given a state at once: NumPy's `RandomState` takes entropy even so."""
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    if not isinstance(call, ast.Call):
        return False
    called = _value(call.func, frame)
    if getattr(called, "__module__", None) in _RESTORING:
        return True
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "seed")]
    return _is_random_state(called) and bool(given) and _value(given[0], frame) is not None


def _is_random_state(called: object) -> bool:
    import numpy as np

    return isinstance(called, type) and issubclass(called, np.random.RandomState)


def _value(node: ast.expr, frame: FrameType) -> object:
    """What a name, an attribute of one, or a constant stands for; another expression is something, never None."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        known = {**vars(sys.modules["builtins"]), **frame.f_globals, **frame.f_locals}
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, frame), node.attr, None)
    return node
