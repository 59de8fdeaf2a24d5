"""A call of Python behind an optimizer's step in a graph: the only thing that is put into one unasked."""

import weakref
from collections.abc import Callable
from typing import Any

TAP = "samebits_tap"
"""What every call of Python is named that we put into a graph."""

_AFTER: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""The last such tap of each graph that is being traced."""


def call_after(variables: list[Any], function: Callable[[], None]) -> Any:
    """Have `function` called whenever the graph being traced has come here; returns the tap.

    The variables' handles are its inputs: TensorFlow then lets all that is written to them before be done, and what
    comes after wait, as the order of the script says. One of other variables would not wait; so it is told to.
    """
    import keras
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    before = [_AFTER[graph]] if graph in _AFTER else []
    inner = [variable.value if isinstance(variable, keras.Variable) else variable for variable in variables]

    def tap(*_: Any) -> None:
        function()

    with tf.control_dependencies(before):
        _AFTER[graph] = tf.py_function(tap, [variable.handle for variable in inner], [], name=TAP)
    return _AFTER[graph]
