"""Record where a script draws unseeded randomness: the operating system's entropy, or a generator without a seed.

In Python, all of it comes through a few functions, which NumPy's generators use too. They are wrapped. Each call reads
its caller from the stack, so a script without unseeded randomness pays nothing. Calls that a library makes for itself,
such as for names of temporary files, are not recorded.
"""

import ast
import functools
import inspect
import linecache
import os
import random
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from samebits.core.script_uses import EntropyUse
from samebits.runner.compat import cpython_private, tensorflow_private
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.call_sites import CallSite, SiteCounter, call_text
from samebits.runner.process.console import log

_TRANSPARENT = frozenset({"random", "secrets", "uuid", __name__})
"""Modules whose calls count as their callers' calls."""

_RESTORING = frozenset({"_pickle", "cloudpickle", "copy", "pickle"})
"""Modules that create a generator without a seed, then restore its state."""

_AUTOGRAPH = f"{os.sep}autograph{os.sep}"
_MAX_USES = 100  # call sites in a record


class EntropyMonitor:
    """Records unseeded randomness in the code under a folder. `stop` makes the run strict: it raises in the script."""

    def __init__(self, code: Path, *, stop: Callable[[str], NoReturn] | None = None) -> None:
        self._code = os.path.join(code, "")
        self._stop = stop
        self._uses = SiteCounter("entropy")

    def install(self, patches: Patches) -> None:
        """Wrap the sources of entropy. Call it after TensorFlow is imported, and before the script is."""
        sources = ((os, "urandom"), (os, "getrandom"), cpython_private.entropy_location(), (uuid, "uuid1"))
        for module, name in sources:
            patches.wrap((module, name), functools.partial(self._watched, module=module.__name__, name=name))
        # Seeding is the second source: `seed()` without a value reads the operating system's entropy in C.
        patches.wrap((random.Random, "seed"), functools.partial(self._unless_given, position=1, name="Random.seed"))
        patches.wrap((random, "seed"), functools.partial(self._unless_given, position=0, name="seed"))

    def found(self) -> list[EntropyUse]:
        """Every use of unseeded randomness, by file and line."""
        uses = (
            EntropyUse(path=str(path), line=int(line), call=str(call), times=times)
            for (path, line, call), times in self._uses.found()
        )
        return list(uses)[:_MAX_USES]

    def check(self) -> None:
        """Raise SettingError where the run is strict and a process that the script forked used unseeded randomness."""
        if self._stop is not None:
            for use in self.found():
                self._stop(_strict_message(str(use)))

    def _watched(self, original: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._note_call()
            return original(*args, **kwargs)

        return _importable(watched, module, name)

    def _unless_given(self, original: Callable[..., Any], position: int, name: str) -> Callable[..., Any]:
        """Record calls that seed with nothing: Python then takes the seed from the operating system."""

        @functools.wraps(original)
        def seed(*args: Any, **kwargs: Any) -> Any:
            if (args[position] if len(args) > position else kwargs.get("a")) is None:
                self._note_call()
            return original(*args, **kwargs)

        return _importable(seed, "random", name)

    def _note_call(self) -> None:
        """Record the call if the script made it. Raises SettingError then where the run is strict."""
        place = _caller(inspect.currentframe(), self._code)
        if place is None:
            return
        text = "{}:{}: {}".format(*place)
        # One warning for each call site; a strict run raises instead.
        if self._uses.add(place) and self._stop is None:
            log(f"{text} draws unseeded randomness; results that depend on it will not repeat")
        if self._stop is not None:
            self._stop(_strict_message(text))


def _strict_message(place: str) -> str:
    return f"{place} draws unseeded randomness, and the run is strict; pass a seed, or drop --strict"


def _importable(function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """Give a wrapper the name it is imported by, so that pickle finds it."""
    function.__module__, function.__qualname__ = module, name
    return function


def _caller(frame: FrameType | None, code: str) -> CallSite | None:
    """The call site in the script; None where a library called for itself, or where the call has a seed."""
    # Walk up through modules that only pass the call on, until code decides whose call it is.
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(code):
            line, text = call_text(frame.f_code, frame.f_lasti, frame.f_lineno)
            return None if _has_a_seed(text, frame) else (file.removeprefix(code), line, text.partition("\n")[0])
        if "__autograph_generated_file" in file:
            # AutoGraph runs generated code. The record names the script's own line.
            original = tensorflow_private.original_line(file, frame.f_lineno)
            if original is None or not original[0].startswith(code):
                return None
            return original[0].removeprefix(code), original[1], linecache.getline(*original).strip()
        transparent = frame.f_globals.get("__name__") in _TRANSPARENT or file.startswith("<") or _AUTOGRAPH in file
        if not transparent:
            return None
        frame = frame.f_back
    return None


def _has_a_seed(text: str, frame: FrameType) -> bool:
    """Whether a call creates a generator with a seed or a state. NumPy's `RandomState` draws entropy even then."""
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    if not isinstance(call, ast.Call):
        return False
    # Unpickling and copying give the new generator a state right away.
    called = _value(call.func, frame)
    if getattr(called, "__module__", None) in _RESTORING:
        return True
    seeds = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "seed")]
    return _is_random_state(called) and bool(seeds) and _value(seeds[0], frame) is not None


def _is_random_state(called: object) -> bool:
    import numpy as np

    return isinstance(called, type) and issubclass(called, np.random.RandomState)


def _value(node: ast.expr, frame: FrameType) -> object:
    """The value of a name, an attribute or a constant. For any other expression a value that is not None."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        # Names resolve as in Python: local, then global, then built-in.
        known = {**vars(sys.modules["builtins"]), **frame.f_globals, **frame.f_locals}
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, frame), node.attr, None)
    return node
