"""The tracing of graphs, wrapped once: listeners are called before each graph is traced, and after it."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.patches import Patches


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trace:
    """A graph that is traced from a Python `function`, called with `inputs`. Its name is empty if it has none.

    `outer` are the graphs within which it is traced, such as that of a condition for its branches; the outermost first.
    """

    name: str
    function: Any
    inputs: Any
    outer: tuple["Trace", ...] = ()


TraceEnd = Callable[[Any], None]
TraceListener = Callable[[Trace], TraceEnd | None]
"""Called before a graph is traced. What it returns is called with the finished graph, unless tracing fails."""


class GraphTracing:
    """Calls listeners for every graph that is traced, in any thread. What they raise ends the tracing."""

    def __init__(self) -> None:
        self._active: list[Trace] = []

    @property
    def is_active(self) -> bool:
        """Whether a graph is being traced."""
        return bool(self._active)

    def install(self, patches: Patches, listeners: Sequence[TraceListener]) -> None:
        """Call these listeners in their order before a graph is traced, and in the reverse order after it."""
        patches.wrap(tensorflow_private.tracing_location(), functools.partial(self.wrapped, listeners=listeners))

    def wrapped(self, original: Callable[..., Any], listeners: Sequence[TraceListener]) -> Callable[..., Any]:
        """TensorFlow's function that traces, with calls of the listeners."""

        @functools.wraps(original)
        def func_graph_from_py_func(name: str | None, python_func: Any, args: Any, *more: Any, **options: Any) -> Any:
            # A strategy traces a step's replicas in threads of their own: these are within the step's graph.
            trace = Trace(name=name or "", function=python_func, inputs=args, outer=tuple(self._active))
            self._active.append(trace)
            try:
                ends = [listener(trace) for listener in listeners]
                graph = original(name, python_func, args, *more, **options)
                for end in filter(None, reversed(ends)):
                    end(graph)
            finally:
                self._active.remove(trace)
            return graph

        return func_graph_from_py_func
