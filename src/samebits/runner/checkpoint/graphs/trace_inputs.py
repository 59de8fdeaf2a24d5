"""What a traced graph was made of: Python values that it does not read again, so that they must not change.

A resumed run traces again, with the values of that moment. So a value that changed after the original run traced would
lead to another graph. Keras keeps the graph of a model from one `fit` to the next, until `compile`.
"""

import functools
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.errors import InputError
from samebits.runner.checkpoint.fit_phase import FitPhase, traced_roots
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.state.encoding import TRACED, Encoded, UncapturableError
from samebits.runner.checkpoint.state.state_changes import first_difference, first_new_difference
from samebits.runner.compat import keras_private
from samebits.runner.compat.graph_tracing import Trace
from samebits.runner.compat.patches import Patches

_DATA_FUNCTION = "Dataset_"
_USES = {"evaluate": keras_private.TEST_FUNCTION, "predict": keras_private.PREDICT_FUNCTION}
CHANGED = "{} changed during training; a graph may have been traced with the old value; use a variable"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """`functions` are what Keras keeps, `state` what it was traced with, `traced` whether this process did that."""

    functions: Mapping[str, Any]
    optimizer: Any
    state: Mapping[str, Any]
    traced: bool


class KeptTraces:
    """Remembers what the functions of each model were traced with."""

    def __init__(self) -> None:
        self._kept: weakref.WeakKeyDictionary[Any, _Kept] = weakref.WeakKeyDictionary()

    def __contains__(self, model: Any) -> bool:
        return model in self._kept

    def remember(self, model: Any, state: Mapping[str, Any], *, traced: bool, evaluated: bool) -> None:
        """Note the state that a model's functions were traced with in a `fit`.

        `traced` is false if this process only restored its end; `evaluated` says whether it had validation data.
        """
        functions = keras_private.kept_functions(model)
        if keras_private.TRAIN_FUNCTION in functions and model not in self._kept:
            named: dict[str, Any] = {name: weakref.ref(item) for name, item in functions.items()}
            if evaluated and not traced:
                named.setdefault(keras_private.TEST_FUNCTION, lambda: None)
            self._kept[model] = _Kept(functions=named, optimizer=_reference(model), state=state, traced=traced)

    def changed(self, model: Any, name: str, state: Mapping[str, Any]) -> tuple[str, bool] | None:
        """What changed since a function was traced that Keras still uses, and whether this process traced it.

        A model that was compiled again is traced again, and so is forgotten.
        """
        kept = self._kept.get(model)
        if kept is None or name not in kept.functions:
            return None
        train = keras_private.TRAIN_FUNCTION
        if kept.functions[train]() is not keras_private.kept_functions(model).get(train):
            del self._kept[model]
            return None
        if kept.optimizer() is not _reference(model)():
            return "model.optimizer", kept.traced
        where = first_difference(kept.state, state)
        return None if where is None else (where, kept.traced)


def _of_libraries(encoded: Mapping[str, Any], model: Any) -> Mapping[str, Any]:
    """Captured state without what the script keeps on a model in whose steps no code of the script runs."""
    known = {*keras_private.library_names(type(model)), "optimizer", "stop_training"}
    return {**encoded, "roots": [_without_own(name, item, known) for name, item in encoded["roots"]]}


def _without_own(name: str, item: Encoded, known: set[str]) -> list[Encoded]:
    layer = item.get("layer") if name == "model" and isinstance(item, Mapping) else None
    if layer is None:
        return [name, item]
    kept = {key: value for key, value in layer["attributes"].items() if key in known}
    return [name, {**item, "layer": {**layer, "attributes": kept}}]


def _reference(model: Any) -> Any:
    optimizer = getattr(model, "optimizer", None)
    return (lambda: None) if optimizer is None else weakref.ref(optimizer)


class TraceGuard:
    """Refuses runs in which a value changed that a graph was traced with.

    `has_traced` says whether the process has traced a graph.
    """

    def __init__(self, manager: CheckpointManager, has_traced: Callable[[], bool]) -> None:
        self._manager = manager
        self._has_traced = has_traced
        self._kept = KeptTraces()

    def install(self, patches: Patches) -> None:
        """Wrap evaluation and prediction, which use graphs of an earlier `fit`."""
        import keras

        for name, function in _USES.items():
            patches.wrap((keras.Model, name), functools.partial(self._wrap_use, function=function))

    def begin(self, phase: FitPhase) -> None:
        """Note what the graphs of a `fit` are traced with, and check that of an earlier one. Raises InputError."""
        self.note(phase)
        self._check_kept(phase.model, keras_private.TRAIN_FUNCTION, phase.fixed)

    def note(self, phase: FitPhase) -> None:
        """Note what the graphs of a `fit` are traced with."""
        phase.fixed = {} if self._is_eager(phase.model) else self._state(phase.model)

    def built(self, phase: FitPhase) -> None:
        """Note what the graphs of a `fit` were traced with, once its first step has built the model.

        Raises UncapturableError if something else than building changed it: a resumed run builds before that.
        """
        known = phase.fixed
        self.note(phase)
        where = first_new_difference(known, phase.fixed)
        if where is not None:
            raise UncapturableError(CHANGED.format(where))

    def check(self, phase: FitPhase) -> None:
        """Raise UncapturableError if Python state that a graph may have been traced with changed."""
        if self._is_eager(phase.model) or not phase.fixed:
            return
        known, phase.fixed = phase.fixed, self._state(phase.model)
        where = first_difference(known, phase.fixed) if phase.fixed else None
        if where is not None:
            raise UncapturableError(CHANGED.format(where))

    def check_traced(self, phase: FitPhase) -> None:
        """Raise UncapturableError if a graph is traced with other Python state than a resumed run has at first.

        A checkpoint does not show what was changed and put back since the last one.
        """
        self._manager.settings.check_traced(phase.settings)
        now = self._state(phase.model)
        # The step that builds a model is traced twice.
        where = (first_new_difference if phase.builds else first_difference)(phase.fixed, now) if now else None
        if where is not None:
            raise UncapturableError(TRACED.format(where))

    def end(self, phase: FitPhase) -> None:
        """Remember what the graphs were traced with that Keras keeps after a `fit`."""
        if phase.fixed:
            data = phase.arguments.get("validation_data"), phase.arguments.get("validation_split")
            evaluated = any(item is not None for item in data)
            self._kept.remember(phase.model, phase.fixed, traced=phase.trained, evaluated=evaluated)

    def _state(self, model: Any) -> Mapping[str, Any]:
        """What a graph of a model's step is made of; empty where that cannot be captured, which is reported."""
        captured = self._manager.attempt(lambda: self._manager.capture_only(traced_roots(model), frozen=True))
        if captured is None:
            return {}
        return captured.encoded if captured.has_own_code else _of_libraries(captured.encoded, model)

    def _is_eager(self, model: Any) -> bool:
        return keras_private.runs_eagerly(model) and not self._has_traced()

    def _check_kept(self, model: Any, function: str, state: Mapping[str, Any]) -> None:
        """Refuse the use of a graph of an earlier `fit`, although what it was traced with changed."""
        changed = self._kept.changed(model, function, state) if state else None
        if changed is None:
            return
        where, traced = changed
        reason = (
            f"{where} changed after an earlier fit, which Keras's kept graph ignores; call compile after the change"
        )
        self._manager.refuse(reason)
        # This run did not trace the earlier graph, and would trace another one now.
        if not traced:
            raise InputError(f"cannot resume: {reason}, and train again")

    def before_trace(self, trace: Trace) -> None:
        """Check what a graph is traced with in a `fit`."""
        phase = self._manager.phase
        # A prediction traces several functions of its data. Graphs within one that is checked are traced with it.
        checked = (item for item in (*trace.outer, trace) if not item.name.startswith(_DATA_FUNCTION))
        if next(checked, None) is trace and isinstance(phase, FitPhase) and phase.fixed and self._manager.writes:
            with self._manager.work():
                self._manager.attempt(lambda: self.check_traced(phase))

    def _wrap_use(self, original: Callable[..., Any], function: str) -> Callable[..., Any]:
        """Check the graph that an evaluation or prediction between two phases uses."""

        @functools.wraps(original)
        def use(model: Any, *args: Any, **kwargs: Any) -> Any:
            if self._manager.phase is None and model in self._kept and not self._is_eager(model):
                with self._manager.work():
                    self._check_kept(model, function, self._state(model))
            return original(model, *args, **kwargs)

        return use
