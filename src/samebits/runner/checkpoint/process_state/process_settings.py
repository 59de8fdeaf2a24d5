"""What a script can change in its process, and no checkpoint holds: it must not change during training."""

import builtins
import os
import pickle
import sys
import types
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import shorten
from samebits.core.jsonio import canonical_json, differing_names
from samebits.core.run_dir import RunDir
from samebits.runner.checkpoint.files.exported_models import ExportedModels
from samebits.runner.checkpoint.process_state.open_descriptors import CALLS, LISTED, OpenDescriptors
from samebits.runner.checkpoint.process_state.plot_settings import imported_libraries, settings_of_plots
from samebits.runner.checkpoint.process_state.readable_settings import (
    SET_FROM_OUTSIDE,
    held_objects,
    is_plain,
    settings_from_outside,
    settings_of_graphs,
    settings_of_libraries,
    settings_of_python,
)
from samebits.runner.checkpoint.process_state.script_code import names_used, text_used
from samebits.runner.checkpoint.process_state.thread_state import held_by_threads
from samebits.runner.checkpoint.state.capture import StateCapture
from samebits.runner.checkpoint.state.code_inspection import is_ours
from samebits.runner.checkpoint.state.encoding import TRACED, UncapturableError, qualified_name
from samebits.runner.checkpoint.state.object_places import first_numbers, restored_in_place, restored_place
from samebits.runner.checkpoint.state.state_walker import StateWalker
from samebits.runner.compat import cpython_private

_PLAIN = (bool, int, float, str)
_CONTAINERS = (list, dict, set, deque, bytearray)
_CODE = (type, types.ModuleType, types.BuiltinFunctionType)
_MAKES_VALUES = frozenset({"builtins", "collections", "functools", "itertools", "numpy", "random"})
"""Packages whose objects a script may keep on a module; what libraries keep there themselves is mostly their own."""
_CHANGED_BY_LIBRARIES = frozenset({"sys", "warnings"})


class ProcessSettings:
    """Compares settings of the process, and values on modules of libraries, during a training.

    Modules of the script are captured by the `walker`. What another module holds when this is created, before the
    script runs, is the library's own.
    """

    def __init__(self, walker: StateWalker, run: RunDir) -> None:
        self.descriptors = OpenDescriptors(run.path, (run.work, run.outputs))
        self._walker = walker
        self._code = walker.code
        self._known = {name: frozenset(vars(module)) for name, module in _modules()}
        self._classes = {kind: frozenset(vars(kind)) for kind in _classes_of_keras()}
        self._replaced: list[tuple[str, types.ModuleType, str]] = []
        self._names: frozenset[str] = frozenset()
        self._plotted = imported_libraries()
        self._initial: Mapping[str, Any] = {}
        self._in_place: frozenset[int] = frozenset()
        self.exports = ExportedModels(self._code)

    def begin_phase(self, captured: StateCapture) -> dict[str, str]:
        """Find where libraries hold functions and objects of the script; returns what `now` does."""
        self._initial, self._in_place = captured.encoded, restored_in_place(captured.encoded)
        ours = {name for name, _ in _modules() if is_ours(name, self._code)}
        self._replaced = [
            (name, module, key)
            for name, module in _modules()
            if name not in ours
            for key, value in list(vars(module).items())
            if _module_of(value) in ours
        ]
        self._plotted = imported_libraries()
        self._names = names_used(SET_FROM_OUTSIDE, self._code)
        self.descriptors.begin_phase(names_used(CALLS, self._code), lists=text_used(LISTED, self._code))
        self.exports.begin_phase()
        return self.now(captured)

    def now(self, captured: StateCapture) -> dict[str, str]:
        """All of them, by the words for a change; `captured` is the state now. Raises UncapturableError."""
        found = {f"the environment variable {name}": value for name, value in os.environ.items()}
        found |= settings_of_libraries() | settings_of_python() | dict(self._in_libraries())
        found |= settings_of_plots(self._plotted)
        found |= settings_from_outside(self._names) | self.descriptors.now()
        found |= {name: _text_of(self._walker.capture(held)) for name, held in grouped(self._set_by_script()).items()}
        return found | dict(self._in_threads(captured)) | finalizers(self._code)

    def check(self, initial: Mapping[str, str], captured: StateCapture) -> None:
        """Raise UncapturableError if the training has changed what `now` returned when it began."""
        self.exports.check()
        changed = differing_names(initial, self.now(captured))
        if changed:
            raise UncapturableError(
                f"{shorten(changed, 3)} changed during training; change it before, or use an attribute"
            )

    def check_traced(self, initial: Mapping[str, str]) -> None:
        """Raise UncapturableError if a graph is traced with other settings than `now` returned when training began."""
        changed = [name for name, value in settings_of_graphs().items() if initial.get(name) != value]
        if changed:
            raise UncapturableError(TRACED.format(shorten(changed, 3)))

    def _in_threads(self, captured: StateCapture) -> Iterator[tuple[str, str]]:
        """What threads hold. An object that is restored in place is named by its place in the initial state."""
        threads = grouped(held_by_threads(self._code))
        places = first_numbers(self._initial, captured.encoded) if threads else {}
        place_of = restored_place(places, self._in_place, captured.number_of)
        for name, held in threads.items():
            yield name, _text_of(self._walker.capture_others(held, place_of), without=captured)

    def _set_by_script(self) -> Iterator[tuple[str, Any]]:
        """What was set on a module of a library, or on a class of Keras, since this was created."""
        for name, module in _modules():
            known = self._known.get(name)
            if known is None or len(known) == len(vars(module)) or is_ours(name, self._code):
                continue
            for key, value in list(vars(module).items()):
                if key not in known and self._is_value(key, value):
                    yield f"{name}.{key}", value
        yield from ((name, value) for name, value in held_objects() if self._is_held(value))
        yield from ((f"{name}.{key}", vars(module).get(key)) for name, module, key in self._replaced)
        for kind, known in self._classes.items():
            for key in vars(kind).keys() - known:
                if self._is_value(key, vars(kind)[key]):
                    yield f"{kind.__module__}.{kind.__qualname__}.{key}", vars(kind)[key]

    def _is_held(self, value: Any) -> bool:
        """Whether an object that the interpreter holds is the script's."""
        # Modules of libraries are not asked for attributes: some are imported by the first.
        owner = value.__self__ if isinstance(value, types.MethodType) else value
        return is_plain(value) or is_ours(str(_module_of(owner)), self._code)

    def _is_value(self, name: str, value: Any) -> bool:
        kind = type(value).__module__
        made = kind.partition(".")[0] in _MAKES_VALUES or is_ours(kind, self._code)
        return made and not name.startswith("__") and not isinstance(value, _CODE)

    def _in_libraries(self) -> Iterator[tuple[str, str]]:
        """Plain public values of the modules that the script imports, also of those that were imported later."""
        ours = [vars(module) for name, module in _modules() if is_ours(name, self._code)]
        imported = {id(item): item for names in ours for item in list(names.values())}
        for module in [builtins, *imported.values()]:
            if isinstance(module, types.ModuleType) and not is_ours(module.__name__, self._code):
                for name, text in _texts(module.__name__, vars(module)):
                    yield f"{module.__name__}.{name}", text


def finalizers(code: str) -> dict[str, str]:
    """How often `weakref.finalize` will call each function of the script, whose modules are in the folder `code`."""
    functions = [getattr(call, "__func__", call) for call in cpython_private.finalizers()]
    calls = [function for function in functions if is_ours(str(_module_of(function)), code)]
    return {f"weakref.finalize of {name}": str(n) for name, n in Counter(map(qualified_name, calls)).items()}


def grouped(items: Iterable[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
    """Values by their names; several of one name get numbers: `{"x": {"x": 1, "x (2)": 3}}`."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in items:
        same = found.setdefault(name, {})
        same[f"{name} ({len(same) + 1})" if same else name] = value
    return found


def _text_of(captured: StateCapture, *, without: StateCapture | None = None) -> str:
    """Captured state as text, `without` the globals that another capture holds."""
    saved = [item for item in captured.encoded["globals"] if without is None or not without.reaches(*item[:2])]
    return canonical_json({**captured.encoded, "globals": saved}).decode()


def _modules() -> list[tuple[str, types.ModuleType]]:
    """All that are loaded; `__mp_main__` is another name of the script."""
    found = list(sys.modules.items())
    return [(name, module) for name, module in found if type(module) is types.ModuleType and name != "__mp_main__"]


def _module_of(value: Any) -> str | None:
    """The module of a function, or of an object's class."""
    return value.__module__ if type(value) is types.FunctionType else type(value).__module__


def _classes_of_keras() -> set[type]:
    modules = [module for name, module in _modules() if name.partition(".")[0] == "keras"]
    found = {item for module in modules for item in list(vars(module).values()) if isinstance(item, type)}
    return {kind for kind in found if kind.__module__.partition(".")[0] == "keras"}


def _texts(module: str, held: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a module holds, and the attributes of its functions, where that is a plain value or a container."""
    for name, value in list(held.items()):
        text = None if name.startswith("_") else _text(module, value)
        if text is not None:
            yield name, text
        elif callable(value) and not isinstance(value, type) and type(getattr(value, "__dict__", None)) is dict:
            yield from ((f"{name}.{key}", text) for key, text in _texts(module, vars(value)))


def _text(module: str, value: Any) -> str | None:
    """A number or text, or a container of Python that can be copied, as text; None for other values."""
    if type(value) in _PLAIN:
        return repr(value)
    if type(value) in _CONTAINERS and module not in _CHANGED_BY_LIBRARIES:
        with suppress(Exception):
            return str(Digest.of_bytes(pickle.dumps(value)))
    return None
