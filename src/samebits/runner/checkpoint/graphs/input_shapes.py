"""For which inputs the steps of models were traced, in which order: TensorFlow chooses a graph by what is there.

After graphs for images of 11 and 16 pixels, Keras uses one for any size. A resumed run skips what traced the first, so
it traces for these inputs again before it first uses such a function for others.
"""

import functools
import inspect
import itertools
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.errors import InputError
from samebits.runner.checkpoint.state.encoding import Encoded, UncapturableError
from samebits.runner.compat import keras_private, tensorflow_private
from samebits.runner.compat.graph_tracing import GraphTracing, Trace, TraceEnd
from samebits.runner.compat.patches import Patches

_Trace = list[Encoded]
"""The name of a function, and the inputs that it was traced for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pending:
    """What the original run had traced for a model's step when its checkpoint was written."""

    model: str
    functions: Mapping[str, Any]
    traces: list[_Trace]


class InputShapes:
    """Remembers what the steps of models were traced for, and restores it."""

    def __init__(self, tracing: GraphTracing) -> None:
        self._tracing = tracing
        self._seen: weakref.WeakKeyDictionary[Any, list[tuple[int, Encoded]]] = weakref.WeakKeyDictionary()
        self._pending: dict[int, _Pending] = {}
        self._numbers = itertools.count()
        self._patches: Patches | None = None

    def install(self, patches: Patches) -> None:
        """Keep where `restore` can wrap the calls of functions, which costs time in each step."""
        self._patches = patches

    def before_trace(self, trace: Trace) -> TraceEnd | None:
        """Note what a step was traced for. A graph within another is traced with it."""
        return None if trace.outer else lambda _: self._note(trace.function, trace.inputs)

    def capture(self, roots: Mapping[str, Any]) -> dict[str, dict[str, list[_Trace]]]:
        """What the steps of these models were traced for, for `restore`."""
        found = {}
        for name, model in _models(roots).items():
            steps = keras_private.step_functions(model)
            traces = {step: self._pending_or_seen(functions) for step, functions in steps.items()}
            found[name] = {step: traced for step, traced in traces.items() if traced}
        return found

    def restore(self, roots: Mapping[str, Any], saved: Mapping[str, Mapping[str, list[_Trace]]]) -> None:
        """Have these models' steps traced as `capture` found them, before they are used for other inputs."""
        for name, model in _models(roots).items():
            wanted = saved.get(name) or {}
            keras_private.make_functions(model, wanted)
            for step, functions in keras_private.step_functions(model).items():
                for function in functions.values():
                    self._pending.pop(id(function), None)
                    if step in wanted:
                        pending = _Pending(model=model.name, functions=functions, traces=list(wanted[step]))
                        self._pending[id(function)] = pending
        if self._pending and self._patches is not None:
            self._patches.wrap(tensorflow_private.call_location(), self._wrap_call)
            self._patches = None

    def _pending_or_seen(self, functions: Mapping[str, Any]) -> list[_Trace]:
        pending = next((self._pending[id(item)] for item in functions.values() if id(item) in self._pending), None)
        return self._traced(functions) if pending is None else pending.traces

    def _traced(self, functions: Mapping[str, Any]) -> list[_Trace]:
        """What this process traced of a step, in order."""
        found = [
            (number, [name, inputs])
            for name, function in functions.items()
            for number, inputs in self._seen.get(inspect.unwrap(function.python_function), ())
        ]
        return [trace for _, trace in sorted(found, key=lambda item: item[0])]

    def _note(self, function: Any, inputs: Any) -> None:
        inner = inspect.unwrap(function) if callable(function) else None
        if inspect.isfunction(inner) and isinstance(inputs, tuple) and keras_private.is_of_step(inner):
            seen = self._seen.setdefault(inner, [])
            encoded = [_encoded(item) for item in inputs]
            if all(encoded != known for _, known in seen):
                seen.append((next(self._numbers), encoded))

    def _wrap_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(function: Any, *inputs: Any, **options: Any) -> Any:
            if id(function) in self._pending and not self._tracing.is_active:
                self._trace_again(function, [_encoded(item) for item in inputs])
            return original(function, *inputs, **options)

        return call

    def _trace_again(self, function: Any, inputs: Encoded) -> None:
        """Trace a step as the original run had, unless only for these inputs."""
        pending = self._pending[id(function)]
        for item in pending.functions.values():
            self._pending.pop(id(item), None)
        traced = self._traced(pending.functions)
        if pending.traces[: len(traced)] != traced:
            raise InputError(f"cannot resume: {pending.model} was traced in another order than before; train again")
        left = pending.traces[len(traced) :]
        if all(pending.functions.get(name) is function and known == inputs for name, known in left):
            return
        try:
            for name, known in left:
                pending.functions[name].get_concrete_function(*map(_decoded, known))
        except Exception as error:
            reason = f"{pending.model} cannot be traced for the inputs of an earlier fit ({error})"
            raise InputError(f"cannot resume: {reason}; train again") from error


def _models(roots: Mapping[str, Any]) -> dict[str, Any]:
    import keras

    return {name: item for name, item in roots.items() if isinstance(item, keras.Model)}


def _encoded(value: Any) -> Encoded:
    """The kinds and shapes of a function's input."""
    import numpy as np
    import tensorflow as tf

    if value is None:
        return None
    if type(value) is tf.TensorSpec or isinstance(value, (tf.Tensor, np.ndarray, np.generic)):
        shape = tf.TensorShape(value.shape)
        return {"tensor": [tf.as_dtype(value.dtype).name, None if shape.rank is None else shape.as_list()]}
    if isinstance(value, tf.data.Iterator):
        return {"iterator": _encoded(value.element_spec)}
    if type(value) in _SEQUENCES:
        return {type(value).__name__: [_encoded(item) for item in value]}
    if type(value) is dict and all(isinstance(name, str) for name in value):
        return {"dict": [[name, _encoded(item)] for name, item in value.items()]}
    return {"other": repr(value if isinstance(value, tf.TypeSpec) else getattr(value, "element_spec", type(value)))}


_SEQUENCES = {list: "list", tuple: "tuple"}


def _decoded(saved: Encoded) -> Any:
    """What stands for an input when a function is traced. Raises UncapturableError."""
    import tensorflow as tf

    if saved is None:
        return None
    ((kind, held),) = saved.items()
    if kind == "tensor":
        return tf.TensorSpec(held[1], held[0])
    if kind == "iterator":
        return tf.data.IteratorSpec(_decoded(held))
    if kind == "dict":
        return {name: _decoded(item) for name, item in held}
    if kind not in _SEQUENCES.values():
        raise UncapturableError(str(held))
    items = [_decoded(item) for item in held]
    return tuple(items) if kind == "tuple" else items
