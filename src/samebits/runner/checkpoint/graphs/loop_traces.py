"""Refuses loops, and callbacks, in which a Python value changed after a graph was traced with it.

A resumed run traces the script's functions again, with the values of that moment. The graphs of a model's own steps are
checked by `trace_inputs`.
"""

import inspect
import json
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from samebits.core.errors import InputError
from samebits.core.jsonio import canonical_json
from samebits.runner.checkpoint.fit_phase import FitPhase, traced_roots
from samebits.runner.checkpoint.graphs.input_shapes import InputShapes
from samebits.runner.checkpoint.graphs.trace_inputs import CHANGED
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.state.code_inspection import global_names
from samebits.runner.checkpoint.state.encoding import Encoded, UncapturableError
from samebits.runner.checkpoint.state.state_changes import first_difference, first_new_difference
from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.graph_tracing import Trace, TraceEnd

_State = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Traced:
    """A function that was traced, the object it is a method of, what it held, and whether that was `within` a phase."""

    function: Any
    owner: Callable[[], Any] | None
    state: _State
    within: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Earlier:
    """What a function of this name, and of the object at this place in a phase, was traced with before a checkpoint."""

    name: str
    place: str | None
    owner: Any
    state: _State


class LoopTraces:
    """Remembers what the functions of a script were traced with, and what the models of a loop hold.

    `is_ours` says whether a module belongs to the script; `shapes` are the inputs of the models' own steps.
    """

    def __init__(self, manager: CheckpointManager, is_ours: Callable[[str], bool], shapes: InputShapes) -> None:
        self._manager = manager
        self.is_ours = is_ours
        self._shapes = shapes
        self._functions: dict[tuple[int, int], _Traced] = {}
        self._models: dict[int, tuple[Mapping[str, Any], _State]] = {}
        self._earlier: list[_Earlier] = []
        self._traced = False

    def before_trace(self, trace: Trace) -> TraceEnd | None:
        """Compare what a function is traced with to what it was traced with before, and note it after the trace."""
        # The graphs within a graph are traced with it.
        if trace.outer or not (self._manager.writes or self._earlier):
            return None
        # The models of a `fit` have a guard of their own.
        self._traced = self._traced or not isinstance(self._manager.phase, FitPhase)
        before = self._attempt(self._roots(trace.function))
        if before is None:
            return None
        self._compare_earlier(trace.function, before)
        return lambda _: self._note(trace.function, before)

    def begin(self, models: Iterable[Any]) -> None:
        """Note what the models hold that a loop was passed. Raises UncapturableError."""
        self._models.clear()
        for model in models:
            roots = traced_roots(model)
            self._models[id(model)] = roots, self._now(roots)

    def capture(self, roots: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint holds of graphs: what functions were traced with, and the models of `roots` for."""
        places = {id(item): name for name, item in roots.items()}
        found = {}
        for earlier in self._earlier:
            if earlier.owner is None or id(earlier.owner) in places:
                found[earlier.name, earlier.place or ""] = earlier.state
        for traced in self._functions.values():
            step, owner = self._parts(traced.function)
            place = places.get(id(owner))
            if traced.within and _is_known_by_name(step) and (traced.owner is None or place is not None):
                found[_name(step), place or ""] = _without_numbers(traced.state)
        values = [[*key, state] for key, state in sorted(found.items(), key=lambda item: item[0])]
        return {"graphs": {"values": values, "inputs": self._shapes.capture(roots)}}

    def checked(self, roots: Mapping[str, Any]) -> dict[str, Any]:
        """What `capture` finds, in a `fit`. Raises UncapturableError where a value changed that a function holds."""
        self.check_functions(within=True)
        return self.capture(roots)

    def restore(self, roots: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Refuse to trace functions with other values than a checkpoint holds, and trace models for its inputs."""
        # A checkpoint of an earlier version of samebits has no graphs.
        saved = state.get("graphs", {})
        for name, place, held in saved.get("values", ()):
            owner = roots.get(place)
            if owner is not None or not place:
                known = [item for item in self._earlier if item.name != name or item.owner is not owner]
                self._earlier = [*known, _Earlier(name=name, place=place or None, owner=owner, state=held)]
        self._shapes.restore(roots, saved.get("inputs", {}))

    def check_functions(self, *, within: bool) -> None:
        """Raise UncapturableError where a value changed that a function, of those traced `within` phases, holds."""
        for key, traced in list(self._functions.items()):
            if traced.owner is not None and traced.owner() is None:
                del self._functions[key]
            elif traced.within or not within:
                # Looked up again: an attribute of a method's object may be another value now.
                now = self._now(self._roots(traced.function))
                self._functions[key] = replace(traced, state=now)
                _refuse(first_difference(traced.state, now))

    def check(self) -> None:
        """Raise UncapturableError where a value changed that a graph may have been traced with."""
        self.check_functions(within=False)
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

    def _parts(self, function: Any) -> tuple[Any, Any]:
        """A function of the script, and the object that it is a method of; nothing for those of libraries."""
        inner = inspect.unwrap(function) if callable(function) else None
        if not self.is_ours(getattr(inner, "__module__", None) or ""):
            return None, None
        code: Any = inner.__func__ if isinstance(inner, types.MethodType) else inner
        return code, tensorflow_private.method_owner(inner)

    def _roots(self, function: Any) -> dict[str, Any]:
        """What a function of the script is reached by; nothing for those of libraries."""
        code, owner = self._parts(function)
        if code is None:
            return {}
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

    def _compare_earlier(self, function: Any, state: _State) -> None:
        """Raise InputError where a function is traced with another value than in the run that this one resumes."""
        if not self._earlier:
            return
        step, owner = self._parts(function)
        now = json.loads(canonical_json(_without_generators(state)))
        for earlier in self._earlier:
            if earlier.name == _name(step) and earlier.owner is owner:
                where = first_new_difference(earlier.state, now)
                if where is not None:
                    raise InputError(f"cannot resume: {CHANGED.format(where)}, and train again")

    def _note(self, function: Any, before: _State) -> None:
        step, owner = self._parts(function)
        key = id(step), id(owner)
        after = self._attempt(self._roots(function))
        if after is None:
            return
        known = self._functions.get(key)

        def compare() -> None:
            _refuse(first_new_difference(before, after))
            if known is not None and (known.owner is None or known.owner() is owner):
                _refuse(first_new_difference(known.state, _without_generators(before)))

        # A trace before the loop may be one that the loop never uses.
        self._manager.attempt(compare)
        # A function that a callback makes is made again in the next epoch.
        if isinstance(self._manager.phase, FitPhase) and not _is_known_by_name(step):
            return
        self._functions[key] = _Traced(
            function=function,
            owner=None if owner is None else weakref.ref(owner),
            state=_without_generators(after),
            within=self._manager.phase is not None or (known is not None and known.within),
        )


def _name(function: types.FunctionType) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _is_known_by_name(function: types.FunctionType) -> bool:
    """Whether a function is one of a module or a class, and not made again and again by another function."""
    return "<locals>" not in function.__qualname__ or "." in function.__qualname__.rpartition("<locals>.")[2]


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


def _without_numbers(encoded: Encoded) -> Encoded:
    """Captured state without the numbers of its objects, which may differ in a resumed run."""
    if isinstance(encoded, Mapping):
        kept = {name: 0 if name == "again" else item for name, item in encoded.items() if name != "#"}
        return {name: _without_numbers(item) for name, item in kept.items()}
    return [_without_numbers(item) for item in encoded] if isinstance(encoded, list) else encoded


_GENERATORS = frozenset({"numpy_generator", "numpy_state", "python_random", "seed_sequence", "tensorflow_generator"})


def _refuse(where: str | None) -> None:
    if where is not None:
        raise UncapturableError(CHANGED.format(where))
