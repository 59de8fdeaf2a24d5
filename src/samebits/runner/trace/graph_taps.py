"""Taps: what is read of a training step while it is computed: its input, layers' outputs, gradients, and variables.

Where a step is computed as it is called, its tensors are looked at as they come. In a graph a tap is a call of Python
that takes tensors and gives none, put in once the graph is traced, and only where it changes nothing of what TensorFlow
makes of the graph (see `rewriting`). Not tapped are what XLA compiles, layers within a graph's inner loops (the cells
of recurrent layers), tensors that hold no numbers, and those that TensorFlow fuses into others.

Of a step are the outputs since a tape last began to record while none did, until the optimizer is called. Those of a
forward pass that no step follows, as for a picture of what a model looks at, are no step's; of gradients that a script
gathers over many passes, the last pass alone has its outputs in the line. Variables are read behind an optimizer
without asking (`call_behind`).
"""

import functools
import itertools
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from samebits.core.trace_level import INPUT
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.tensorflow_private import (
    eager_values,
    in_xla_context,
    is_eager,
    run_after,
    tape_records,
    tracing_location,
)
from samebits.runner.determinism.op_audit import unwatched
from samebits.runner.digests.tensors import DescribedTensor, type_name
from samebits.runner.digests.trained_models import trained_by
from samebits.runner.trace.grappler_check import unchanging
from samebits.runner.trace.optimizer_tap import TAP

_NO_NUMBERS = {"resource", "string", "variant"}


class Sink(Protocol):
    """What taps hand over to."""

    def wanted(self) -> bool:
        """Whether tensors of the step that now goes on are taken."""

    def begin_pass(self) -> None:
        """A tape begins to record while none does, where steps are computed as they are called."""

    def take(self, tap: int, outputs: list[DescribedTensor], gradients: list[DescribedTensor]) -> None:
        """The tensors that the tap of this number saw; 0 is no graph's."""

    def report(self, what: str) -> None:
        """What cannot be handed over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedTensor:
    """A tensor of a graph that is being traced, and what is said of it; a `gradient`, or else an output."""

    about: dict[str, Any]
    tensor: Any
    gradient: bool = False


@dataclass(kw_only=True, slots=True)
class TappedStep:
    """The tensors of one step in a graph, and what must wait until they are read."""

    seen: list[TracedTensor]
    behind: Any = None
    provisional: bool = False
    """Whether the graph makes variables: TensorFlow then traces it again, and runs that."""


@dataclass(kw_only=True, slots=True)
class TracedGraph:
    """What was seen of a graph so far: outputs that no step has had yet, and steps."""

    outputs: list[TracedTensor] = field(default_factory=list)
    steps: list[TappedStep] = field(default_factory=list)


class NestingDepth(threading.local):
    """How many layers, and gradients, are within one another in this thread; others may prepare data with layers."""

    calls = 0
    gradients = 0


class GraphTaps:
    """Hands the tensors of steps to a sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._graphs: weakref.WeakKeyDictionary[Any, TracedGraph] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count(1)
        self._within = NestingDepth()

    def install(self, patches: Patches) -> None:
        """Wrap the call of layers, tapes, and the tracing of graphs."""
        import keras
        import tensorflow as tf

        patches.wrap((keras.Layer, "__call__"), self._wrap_call)
        patches.wrap((tf.GradientTape, "__enter__"), self._wrap_enter)
        patches.wrap((tf.GradientTape, "gradient"), self._wrap_gradient)
        patches.wrap(tracing_location(), self._wrap_trace)

    def gradients(self, optimizer: Any, gradients: Any, variables: Any) -> TappedStep | None:
        """What an optimizer is called with; where that is traced, the step in that graph."""
        import tensorflow as tf

        named = trained_by(optimizer) if variables is None else variables
        pairs = [pair for pair in zip(gradients, named, strict=False) if pair[0] is not None]
        seen = [part for gradient, variable in pairs for part in _gradient_parts(gradient, variable)]
        if tf.executing_eagerly():
            if self._sink.wanted():
                self._sink.take(0, [], [_named(item, item.tensor) for item in seen])
            return None
        if in_xla_context():
            return None
        graph = tf.compat.v1.get_default_graph()
        here = self._graphs.setdefault(graph, TracedGraph())
        step = TappedStep(seen=here.outputs + seen)
        here.outputs = []
        here.steps.append(step)
        self._outputs_around(graph)
        return step

    def _outputs_around(self, graph: Any) -> None:
        """Of the graphs that hold this one, as where a step is a branch of a condition, the outputs are the step's."""
        while (graph := getattr(graph, "outer_graph", None)) is not None:
            around = self._graphs.get(graph)
            if around is not None and around.outputs:
                around.steps.append(TappedStep(seen=around.outputs))
                around.outputs = []

    def _wrap_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if not tape_records():
                return original(layer, *args, **kwargs)
            if self._within.calls == 0:
                self._called(layer, (args, kwargs), {"part": INPUT})
            self._within.calls += 1
            try:
                outputs = original(layer, *args, **kwargs)
            finally:
                self._within.calls -= 1
            self._called(layer, outputs, {})
            return outputs

        return call

    def _wrap_enter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def enter(tape: Any) -> Any:
            if self._within.gradients == 0 and not tape_records():
                self._begin_pass()
            return original(tape)

        return enter

    def _wrap_gradient(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def gradient(*args: Any, **kwargs: Any) -> Any:
            self._within.gradients += 1  # a layer that is computed again for it has a tape of its own
            try:
                return original(*args, **kwargs)
            finally:
                self._within.gradients -= 1

        return gradient

    def _begin_pass(self) -> None:
        import tensorflow as tf

        if tf.executing_eagerly():
            self._sink.begin_pass()
        elif (traced := self._graphs.get(tf.compat.v1.get_default_graph())) is not None:
            traced.outputs.clear()

    def _called(self, layer: Any, values: Any, part: dict[str, str]) -> None:
        """What a layer gave; of one that no other calls, as the model itself, also what it was given."""
        import tensorflow as tf

        name = getattr(layer, "path", None) or layer.name
        for value in tf.nest.flatten(values, expand_composites=True):
            tensor = _as_tensor(value) if part and tf.executing_eagerly() else value
            if not isinstance(tensor, tf.Tensor) or type_name(tensor) in _NO_NUMBERS:
                continue
            seen = TracedTensor(about={"layer": name} | part, tensor=tensor)
            if not is_eager(tensor):
                self._graphs.setdefault(tensor.graph, TracedGraph()).outputs.append(seen)
            elif self._sink.wanted():
                self._sink.take(0, [_named(seen, tensor)], [])

    def _wrap_trace(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def func_graph_from_py_func(*args: Any, **kwargs: Any) -> Any:
            graph = original(*args, **kwargs)
            traced = self._graphs.pop(graph, None)
            steps = [] if traced is None else [step for step in traced.steps if not step.provisional]
            if steps:
                self._tap(graph, steps)
            return graph

        return func_graph_from_py_func

    def _tap(self, graph: Any, steps: list[TappedStep]) -> None:
        """Put taps for the steps into a graph that is traced to its end; say where that cannot be."""
        candidates = {
            _key(seen.tensor): seen.tensor for step in steps for seen in step.seen if seen.tensor.graph is graph
        }
        try:
            harmless = unchanging(graph, candidates)
            before = None
            for step in steps:
                self._tap_step(graph, step, harmless or set(), before)
                before = step.behind
        except Exception:  # noqa: BLE001  whatever TensorFlow says of a graph that it can run, the script goes on
            self._sink.report("gradients and outputs of steps whose graph cannot be tapped")
            return
        if harmless is None:
            self._sink.report("gradients and outputs of steps whose graph would be changed by a tap")

    def _tap_step(self, graph: Any, step: TappedStep, harmless: set[str], before: Any) -> None:
        """One step's tap, which comes after the line of the step `before`."""
        seen = [item for item in step.seen if _key(item.tensor) in harmless]
        if not seen:
            return
        with graph.as_default(), unwatched():
            operation = self._tap_of(seen)
        graph.control_outputs.append(operation)
        if before is not None:
            run_after(operation, before)
        if step.behind is not None:
            run_after(step.behind, operation)

    def _tap_of(self, seen: list[TracedTensor]) -> Any:
        """A node that reads what was seen; each tensor once, though two layers may give it."""
        import tensorflow as tf

        number = next(self._numbers)
        tensors = list({_key(item.tensor): item.tensor for item in seen}.values())
        places = {_key(tensor): place for place, tensor in enumerate(tensors)}
        wanted = [
            (TracedTensor(about=item.about, tensor=None, gradient=item.gradient), places[_key(item.tensor)])
            for item in seen
        ]

        def tap(*values: Any) -> None:
            if self._sink.wanted():
                named = [(item.gradient, _named(item, values[place])) for item, place in wanted]
                self._sink.take(number, *([item for found, item in named if found is kind] for kind in (False, True)))

        return tf.py_function(tap, tensors, [], name=TAP)


def _as_tensor(value: Any) -> Any:
    """A script may give its model arrays; what is neither stays what it is."""
    import numpy as np
    import tensorflow as tf

    return tf.constant(value) if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" else value


def _gradient_parts(gradient: Any, variable: Any) -> list[TracedTensor]:
    """A gradient, by the path of its variable; a sparse one in the parts that TensorFlow has of it."""
    import tensorflow as tf

    path = getattr(variable, "path", variable.name)
    if isinstance(gradient, tf.IndexedSlices):
        parts = {"values": gradient.values, "indices": gradient.indices}
        return [TracedTensor(about={"path": path, "part": part}, tensor=parts[part], gradient=True) for part in parts]
    return (
        [TracedTensor(about={"path": path}, tensor=gradient, gradient=True)] if isinstance(gradient, tf.Tensor) else []
    )


def _named(seen: TracedTensor, value: Any) -> DescribedTensor:
    """With the values that came; they are TensorFlow's own memory, and not written to while they are held."""
    about = seen.about | {"dtype": type_name(value), "shape": [int(size) for size in value.shape]}
    return DescribedTensor(about=about, array=eager_values(value))


def _key(tensor: Any) -> str:
    return str(tensor.name)
