"""Taps: read the tensors of a training step while it is computed: input, outputs of layers, gradients, variables.

In eager code, tensors are captured as they appear. In a graph, a tap is a Python call that takes tensors and returns
none. It is inserted after the graph was traced, and only if it does not change how TensorFlow optimizes the graph (see
`grappler_check`). Not tapped are:

- what XLA compiles;
- layers inside a graph's inner loops, such as the cells of recurrent layers;
- tensors that hold no numbers;
- tensors that TensorFlow fuses into others.

The outputs of a step are those since the outermost tape began to record, until the optimizer is called. A forward pass
without a step, such as one that draws a saliency map, belongs to no step. If a script accumulates gradients over
several passes, only the last pass has its outputs in the line. Variables are read after the optimizer (`call_after`).
"""

import functools
import itertools
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from samebits.core.trace_level import INPUT
from samebits.runner.compat.graph_tracing import GraphTracing
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.tensorflow_private import (
    eager_values,
    in_xla_context,
    is_eager,
    run_after,
    tape_records,
)
from samebits.runner.determinism.op_audit import unwatched
from samebits.runner.digests.tensors import DescribedTensor, type_name
from samebits.runner.digests.trained_models import trained_by
from samebits.runner.trace.grappler_check import harmless_tensors
from samebits.runner.trace.optimizer_tap import TAP

_DTYPES_WITHOUT_NUMBERS = {"resource", "string", "variant"}


class Sink(Protocol):
    """Receives what taps capture."""

    def wanted(self) -> bool:
        """Whether tensors of the current step are captured."""

    def begin_pass(self) -> None:
        """Called in eager code when a tape begins to record while no other does."""

    def capture(self, tap: int, outputs: list[DescribedTensor], gradients: list[DescribedTensor]) -> None:
        """Receive the tensors from the tap of this number; 0 stands for eager code."""

    def report(self, missing: str) -> None:
        """Report what cannot be captured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedTensor:
    """A tensor of a graph that is being traced, and its description: a `gradient` or an output."""

    about: dict[str, Any]
    tensor: Any
    gradient: bool = False


@dataclass(kw_only=True, slots=True)
class TappedStep:
    """The tensors of one step in a graph, and the node that must run `after` they are read."""

    seen: list[TracedTensor]
    after: Any = None
    provisional: bool = False
    """Whether the graph creates variables: TensorFlow then traces it again, and runs the second graph."""


@dataclass(kw_only=True, slots=True)
class TracedGraph:
    """What was traced of a graph so far: outputs that belong to no step yet, and steps."""

    outputs: list[TracedTensor] = field(default_factory=list)
    steps: list[TappedStep] = field(default_factory=list)


class NestingDepth(threading.local):
    """How deeply calls of layers, and of `gradient`, are nested in this thread. Other threads may prepare data."""

    calls = 0
    gradients = 0


class GraphTaps:
    """Passes the tensors of steps to a sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        # A graph that is dropped before it is finished must not stay in memory.
        self._graphs: weakref.WeakKeyDictionary[Any, TracedGraph] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count(1)
        self._nesting = NestingDepth()

    def install(self, patches: Patches) -> None:
        """Wrap calls of layers, gradient tapes, and the tracing of graphs."""
        import keras
        import tensorflow as tf

        patches.wrap((keras.Layer, "__call__"), self._wrap_call)
        patches.wrap((tf.GradientTape, "__enter__"), self._wrap_enter)
        patches.wrap((tf.GradientTape, "gradient"), self._wrap_gradient)
        GraphTracing().install(patches, [lambda _: self._end_trace])

    def gradients(self, optimizer: Any, gradients: Any, variables: Any) -> TappedStep | None:
        """Capture the gradients that an optimizer is called with; while a graph is traced, return the step instead."""
        import tensorflow as tf

        trained = trained_by(optimizer) if variables is None else variables
        # Variables that the loss does not depend on have no gradient.
        pairs = [pair for pair in zip(gradients, trained, strict=False) if pair[0] is not None]
        seen = [part for gradient, variable in pairs for part in _gradient_parts(gradient, variable)]
        if tf.executing_eagerly():
            if self._sink.wanted():
                self._sink.capture(0, [], [_with_values(item, item.tensor) for item in seen])
            return None
        # XLA cannot compile a call of Python.
        if in_xla_context():
            return None
        graph = tf.compat.v1.get_default_graph()
        traced = self._graphs.setdefault(graph, TracedGraph())
        # All outputs since the last step belong to this one.
        step = TappedStep(seen=traced.outputs + seen)
        traced.outputs = []
        traced.steps.append(step)
        self._end_outer_outputs(graph)
        return step

    def _end_outer_outputs(self, graph: Any) -> None:
        """Assign the outputs of outer graphs to the step, which may be a branch of a condition in them."""
        while (graph := getattr(graph, "outer_graph", None)) is not None:
            outer = self._graphs.get(graph)
            if outer is not None and outer.outputs:
                outer.steps.append(TappedStep(seen=outer.outputs))
                outer.outputs = []

    def _wrap_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            # Without a tape there is no training step: evaluation, prediction, preparation of data.
            if not tape_records():
                return original(layer, *args, **kwargs)
            # Only the outermost layer, usually the model, has its input captured.
            if self._nesting.calls == 0:
                self._called(layer, (args, kwargs), {"part": INPUT})
            self._nesting.calls += 1
            try:
                outputs = original(layer, *args, **kwargs)
            finally:
                self._nesting.calls -= 1
            self._called(layer, outputs, {})
            return outputs

        return call

    def _wrap_enter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def enter(tape: Any) -> Any:
            # Only the outermost tape begins a pass; a second one may belong to the same step.
            if self._nesting.gradients == 0 and not tape_records():
                self._begin_pass()
            return original(tape)

        return enter

    def _wrap_gradient(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def gradient(*args: Any, **kwargs: Any) -> Any:
            # A layer that is recomputed for the gradient opens a tape of its own, which begins no new pass.
            self._nesting.gradients += 1
            try:
                return original(*args, **kwargs)
            finally:
                self._nesting.gradients -= 1

        return gradient

    def _begin_pass(self) -> None:
        import tensorflow as tf

        if tf.executing_eagerly():
            self._sink.begin_pass()
        # In a graph, outputs of an earlier pass that no step followed are dropped the same way.
        elif (traced := self._graphs.get(tf.compat.v1.get_default_graph())) is not None:
            traced.outputs.clear()

    def _called(self, layer: Any, values: Any, part: dict[str, str]) -> None:
        """Capture the tensors in `values`: the outputs of a layer, or its inputs if `part` says so."""
        import tensorflow as tf

        name = getattr(layer, "path", None) or layer.name
        for value in tf.nest.flatten(values, expand_composites=True):
            tensor = _as_tensor(value) if part and tf.executing_eagerly() else value
            if not isinstance(tensor, tf.Tensor) or type_name(tensor) in _DTYPES_WITHOUT_NUMBERS:
                continue
            seen = TracedTensor(about={"layer": name} | part, tensor=tensor)
            # A layer may be called in a graph; its tensors have values only when the graph runs.
            if not is_eager(tensor):
                self._graphs.setdefault(tensor.graph, TracedGraph()).outputs.append(seen)
            elif self._sink.wanted():
                self._sink.capture(0, [_with_values(seen, tensor)], [])

    def _end_trace(self, graph: Any) -> None:
        traced = self._graphs.pop(graph, None)
        # TensorFlow discards a graph that creates variables.
        steps = [] if traced is None else [step for step in traced.steps if not step.provisional]
        if steps:
            self._tap(graph, steps)

    def _tap(self, graph: Any, steps: list[TappedStep]) -> None:
        """Insert taps for the steps into a finished graph; report if that is not possible."""
        candidates = {
            _key(seen.tensor): seen.tensor for step in steps for seen in step.seen if seen.tensor.graph is graph
        }
        try:
            # All taps are checked together, as they all end up in the same graph.
            harmless = harmless_tensors(graph, candidates)
            previous = None
            for step in steps:
                self._tap_step(graph, step, harmless or set(), previous)
                previous = step.after
        except Exception:  # noqa: BLE001  TensorFlow may refuse to inspect a graph that it can run: the script continues
            self._sink.report("gradients and outputs of steps whose graph cannot be tapped")
            return
        if harmless is None:
            self._sink.report("gradients and outputs of steps whose graph would be changed by a tap")

    def _tap_step(self, graph: Any, step: TappedStep, harmless: set[str], previous: Any) -> None:
        """Insert the tap of one step. It runs after the line of the `previous` step is written, and before its own."""
        seen = [item for item in step.seen if _key(item.tensor) in harmless]
        if not seen:
            return
        # The tap is not an operation of the script, and must not appear in the audit of operations.
        with graph.as_default(), unwatched():
            operation = self._insert_tap(seen)
        # Nothing reads the tap; without this, it would not run.
        graph.control_outputs.append(operation)
        if previous is not None:
            run_after(operation, previous)
        if step.after is not None:
            run_after(step.after, operation)

    def _insert_tap(self, seen: list[TracedTensor]) -> Any:
        """Insert a node that reads the tensors; each one once, although two layers may return the same tensor."""
        import tensorflow as tf

        number = next(self._numbers)
        tensors = list({_key(item.tensor): item.tensor for item in seen}.values())
        indices = {_key(tensor): index for index, tensor in enumerate(tensors)}
        # The tap lives as long as the graph, and must not keep symbolic tensors alive.
        described = [
            (TracedTensor(about=item.about, tensor=None, gradient=item.gradient), indices[_key(item.tensor)])
            for item in seen
        ]

        def tap(*values: Any) -> None:
            if self._sink.wanted():
                # Outputs and gradients are separated only now, as they share one call.
                named = [(item.gradient, _with_values(item, values[index])) for item, index in described]
                self._sink.capture(
                    number, *([item for found, item in named if found is kind] for kind in (False, True))
                )

        return tf.py_function(tap, tensors, [], name=TAP)


def _as_tensor(value: Any) -> Any:
    """Convert a NumPy array, which a script may pass to its model; other values are returned as they are."""
    import numpy as np
    import tensorflow as tf

    return tf.constant(value) if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" else value


def _gradient_parts(gradient: Any, variable: Any) -> list[TracedTensor]:
    """A gradient, described by the path of its variable; a sparse one as its values and indices."""
    import tensorflow as tf

    path = getattr(variable, "path", variable.name)
    # Converting it to a dense gradient would compute what the script does not.
    if isinstance(gradient, tf.IndexedSlices):
        parts = {"values": gradient.values, "indices": gradient.indices}
        return [TracedTensor(about={"path": path, "part": part}, tensor=parts[part], gradient=True) for part in parts]
    return (
        [TracedTensor(about={"path": path}, tensor=gradient, gradient=True)] if isinstance(gradient, tf.Tensor) else []
    )


def _with_values(seen: TracedTensor, value: Any) -> DescribedTensor:
    """A traced tensor with its values, which are not copied: TensorFlow does not write to them while we hold them."""
    about = seen.about | {"dtype": type_name(value), "shape": [int(size) for size in value.shape]}
    return DescribedTensor(about=about, array=eager_values(value))


def _key(tensor: Any) -> str:
    return str(tensor.name)
