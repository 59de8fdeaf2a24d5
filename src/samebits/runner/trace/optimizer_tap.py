"""Inserts a Python call after an optimizer's step in a graph.

This is the only node that is inserted without asking Grappler first (see `grappler_check`).
"""

import weakref
from collections.abc import Callable
from typing import Any

TAP = "samebits_tap"
"""The name of every Python call that samebits inserts into a graph."""

_LAST_TAP: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""The last such call in each graph that is being traced."""


def call_after(variables: list[Any], function: Callable[[], None]) -> Any:
    """Insert a call of `function` at the current end of the graph that is being traced; returns the inserted node."""
    import keras
    import tensorflow as tf

    # Taps of different variables do not wait for each other by themselves.
    graph = tf.compat.v1.get_default_graph()
    previous = [_LAST_TAP[graph]] if graph in _LAST_TAP else []
    # The handles as inputs order the tap: after earlier writes to the variables, and before later ones.
    inner = [variable.value if isinstance(variable, keras.Variable) else variable for variable in variables]

    def tap(*_: Any) -> None:
        function()

    with tf.control_dependencies(previous):
        _LAST_TAP[graph] = tf.py_function(tap, [variable.handle for variable in inner], [], name=TAP)
    return _LAST_TAP[graph]
