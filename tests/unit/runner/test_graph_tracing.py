"""Listeners of traced graphs: their order, what is within what, and what they learn of a failure."""

import types
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.graph_tracing import GraphTracing, Trace, TraceEnd, TraceListener
from samebits.runner.compat.patches import Patches


def original(name: str | None, python_func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What a graph is here: its name, and the result of the function."""
    return name, python_func(*args, **kwargs)


def listener(calls: list[str], who: str) -> TraceListener:
    def before(trace: Trace) -> TraceEnd:
        calls.append(f"{who} before {trace.name}")
        return lambda graph: calls.append(f"{who} after {graph[0]}")

    return before


def test_listeners_are_called_in_order_and_after_a_trace_in_the_reverse_order() -> None:
    calls: list[str] = []
    listeners = [listener(calls, "one"), lambda _: calls.append("two before"), listener(calls, "three")]
    trace = GraphTracing().wrapped(original, listeners)
    assert trace("step", max, [1, 2], {}) == ("step", 2)
    assert calls == ["one before step", "two before", "three before step", "three after step", "one after step"]


def test_each_trace_knows_what_it_is_within() -> None:
    tracing = GraphTracing()
    seen: list[tuple[str, list[str], bool]] = []

    def before(trace: Trace) -> None:
        seen.append((trace.name, [outer.name for outer in trace.outer], tracing.is_active))

    trace = tracing.wrapped(original, [before])

    def branch() -> None:
        trace("inner", int, (), {})

    def step() -> None:
        trace("first", branch, (), {})
        trace(name="second", python_func=int, args=(), kwargs={})

    trace("step", step, (), {})
    trace(None, int, (), {})
    assert seen == [
        ("step", [], True),
        ("first", ["step"], True),
        ("inner", ["step", "first"], True),
        ("second", ["step"], True),
        ("", [], True),
    ]
    assert not tracing.is_active


def test_a_listener_sees_the_function_and_its_inputs() -> None:
    seen: list[Trace] = []
    trace = GraphTracing().wrapped(original, [seen.append])
    trace("step", max, (1, 2), {})
    trace(name="step", python_func=min, args=[3, 4], kwargs={})
    assert [(item.function, item.inputs) for item in seen] == [(max, (1, 2)), (min, [3, 4])]


def fail(*_: Any) -> Any:
    raise ValueError("mine")


@pytest.mark.parametrize("where", ["before", "within", "after"])
def test_after_a_failure_the_next_trace_is_within_none(where: str) -> None:
    tracing = GraphTracing()
    calls: list[str] = []
    failing: dict[str, list[TraceListener]] = {"before": [fail], "after": [lambda _: fail]}
    trace = tracing.wrapped(original, [listener(calls, "one"), *failing.get(where, [])])
    with pytest.raises(ValueError, match=r"^mine$"):
        trace("step", fail if where == "within" else int, (), {})
    assert (calls, tracing.is_active) == (["one before step"], False)


def test_it_is_installed_and_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.SimpleNamespace(func_graph_from_py_func=original)
    monkeypatch.setattr(tensorflow_private, "tracing_location", lambda: (module, "func_graph_from_py_func"))
    seen: list[Trace] = []
    with Patches() as patches:
        GraphTracing().install(patches, [seen.append])
        module.func_graph_from_py_func("step", int, (), {})
    assert module.func_graph_from_py_func is original
    assert [item.name for item in seen] == ["step"]
