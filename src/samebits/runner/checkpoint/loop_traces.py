"""Refuses loops in which a Python value changed after a graph was traced with it.

A resumed run traces the loop's functions again, with the values of that moment. The graphs of a `fit` are checked by
`trace_inputs`.
"""

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from samebits.runner.checkpoint.code_inspection import global_names
from samebits.runner.checkpoint.encoding import Encoded, UncapturableError
from samebits.runner.checkpoint.fit_phase import FitPhase, traced_roots
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.trace_inputs import CHANGED, first_difference, first_new_difference
from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.patches import Patches

_State = Mapping[str, Any]


class LoopTraces:
    """Remembers what the functions of a script were traced with, and what the models of a loop hold.

    `is_ours` says whether a module belongs to the script.
    """

    def __init__(self, manager: CheckpointManager, is_ours: Callable[[str], bool]) -> None:
        self._manager = manager
        self.is_ours = is_ours
        self._functions: dict[int, tuple[Mapping[str, Any], _State]] = {}
        self._models: dict[int, tuple[Mapping[str, Any], _State]] = {}
        self._tracing = False
        self._traced = False

    def install(self, patches: Patches) -> None:
        """Wrap the tracing of graphs."""
        patches.wrap(tensorflow_private.tracing_location(), self._wrap)

    def begin(self, models: Iterable[Any]) -> None:
        """Note what the models hold that a loop was passed. Raises UncapturableError."""
        self._models.clear()
        for model in models:
            roots = traced_roots(model)
            self._models[id(model)] = roots, self._now(roots)

    def check(self) -> None:
        """Raise UncapturableError where a value changed that a graph may have been traced with."""
        for key, (roots, known) in self._functions.items():
            self._functions[key] = roots, self._now(roots)
            _refuse(first_difference(known, self._functions[key][1]))
        for key, (roots, known) in self._models.items():
            self._models[key] = roots, self._now(roots)
            # What the first step of a loop builds, a resumed run builds before it.
            _refuse(first_new_difference(known, self._models[key][1]) if self._traced else None)

    def _capture(self, roots: Mapping[str, Any]) -> _State:
        captured = self._manager.capture_only(roots, frozen=True)
        return captured.encoded if captured.has_own_code else {"roots": [], "globals": []}

    def _now(self, roots: Mapping[str, Any]) -> _State:
        state: _State = _without_generators(self._capture(roots))
        return state

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def func_graph_from_py_func(name: str, *arguments: Any, **options: Any) -> Any:
            # The graphs within a graph are traced with it. A `fit` has a guard of its own.
            if self._tracing or not self._manager.writes or isinstance(self._manager.phase, FitPhase):
                return original(name, *arguments, **options)
            function = arguments[0] if arguments else options.get("python_func")
            self._traced, self._tracing = True, True
            try:
                roots = self._roots(function)
                before = self._attempt(roots)
                graph = original(name, *arguments, **options)
                if before is not None:
                    self._note(roots, before)
            finally:
                self._tracing = False
            return graph

        return func_graph_from_py_func

    def _roots(self, function: Any) -> dict[str, Any]:
        """What a function of the script is reached by; nothing for those of libraries."""
        inner = inspect.unwrap(function) if callable(function) else None
        owner = tensorflow_private.method_owner(inner)
        if not self.is_ours(getattr(inner, "__module__", None) or ""):
            return {}
        code: Any = inner.__func__ if isinstance(inner, types.MethodType) else inner
        return {"step": code} | ({} if owner is None else _named(owner, code))

    def _attempt(self, roots: Mapping[str, Any]) -> _State | None:
        """The state, captured; what cannot be captured is reported within a loop."""
        if not roots:
            return None
        with self._manager.work():
            if self._manager.phase is not None:
                return self._manager.attempt(lambda: self._capture(roots))
            try:
                return self._capture(roots)
            except UncapturableError:
                return None

    def _note(self, roots: Mapping[str, Any], before: _State) -> None:
        key = id(roots["step"])
        after = self._attempt(roots)
        if after is None:
            return

        def compare() -> None:
            _refuse(first_new_difference(before, after))
            if key in self._functions:
                _refuse(first_new_difference(self._functions[key][1], _without_generators(before)))

        # A trace before the loop may be one that the loop never uses.
        self._manager.attempt(compare)
        self._functions[key] = roots, _without_generators(after)


def _named(owner: Any, code: types.FunctionType) -> dict[str, Any]:
    """What a method reaches through its object, by the names in its code and in that of the methods it may call."""
    waiting, seen = [code], {code.__name__}
    found = {}
    while waiting:
        for name in global_names(waiting.pop().__code__):
            method = getattr(type(owner), name, None)
            method = tensorflow_private.python_function(method) or method
            if name not in seen and isinstance(method, types.FunctionType):
                waiting.append(method)
                found[f"{type(owner).__name__}.{name}"] = method
            elif name not in seen and name in getattr(owner, "__dict__", {}):
                found[f"{type(owner).__name__}.{name}"] = getattr(owner, name)
            seen.add(name)
    return found


def _without_generators(encoded: Encoded) -> Encoded:
    """Captured state without random generators: a graph holds none of their numbers but those drawn in its trace."""
    if isinstance(encoded, Mapping):
        if not _GENERATORS.isdisjoint(encoded):
            return {"constant": "generator"}
        return {name: _without_generators(item) for name, item in encoded.items()}
    return [_without_generators(item) for item in encoded] if isinstance(encoded, list) else encoded


_GENERATORS = frozenset({"numpy_generator", "numpy_state", "python_random", "seed_sequence", "tensorflow_generator"})


def _refuse(where: str | None) -> None:
    if where is not None:
        raise UncapturableError(CHANGED.format(where))
