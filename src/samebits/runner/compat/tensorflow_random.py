"""Private names of TensorFlow's seeds, random generators and stateful random operations, tested with 2.21.0."""

from collections.abc import Iterator
from typing import Any

from samebits.runner.compat.patches import PatchTarget

PHILOX = 1
"""TensorFlow's number of the algorithm that its random operations use on every device."""

DRAWING = frozenset(
    {
        *("random_normal", "random_uniform", "truncated_normal", "random_shuffle", "random_gamma"),
        *("multinomial_categorical_impl", "random_poisson_v2"),
    }
)
"""The functions of TensorFlow that ask for two seeds and then create one of the operations of `operation_location`."""


def operation_location(name: str) -> PatchTarget:
    """The function that creates one kind of stateful random operation, such as `random_standard_normal`."""
    from tensorflow.python.ops import gen_random_ops

    return gen_random_ops, name


def seed_location() -> PatchTarget:
    """The function that gives an operation its two seeds."""
    from tensorflow.python.framework import random_seed

    return random_seed, "get_seed"


def reset_locations() -> list[PatchTarget]:
    """The methods after which all of TensorFlow's random operations start over."""
    from tensorflow.python.eager import context

    return [(context.Context, "_set_global_seed"), (context.Context, "clear_kernel_cache")]


def data_function_location() -> PatchTarget:
    """The method that traces a function of a tf.data pipeline."""
    from tensorflow.python.data.ops.structured_function import StructuredFunctionWrapper

    return StructuredFunctionWrapper, "__init__"


def save_locations() -> list[PatchTarget]:
    """The function that writes a SavedModel, under each of its names."""
    import tensorflow as tf
    from tensorflow.python.saved_model import save

    return [(tf.saved_model, "save"), (save, "save")]


def traced_function() -> Any:
    """The graph of the `tf.function` that is being traced: its own, or around a branch or loop. None outside of one."""
    from tensorflow.python.framework.func_graph import FuncGraph

    # Branches and loops have subclasses of it.
    return next((graph for graph in _graphs() if type(graph) is FuncGraph), None)


def _graphs() -> Iterator[Any]:
    import tensorflow as tf

    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


def is_scratch(graph: Any) -> bool:
    """Whether Keras computes shapes in a graph that is never executed."""
    return str(graph.name).startswith("scratch_graph")


def tensorflow_seed() -> Any:
    """The seed that `tf.random.set_seed` set."""
    from tensorflow.python.eager import context

    return context.global_seed()


def restore_seed(seed: int) -> None:
    """Set that seed, and let no operation start over."""
    from tensorflow.python.eager import context

    context.context()._seed = seed


def eager_seed_generator() -> Any:
    """The Python generator that gives eager operations their seeds."""
    from tensorflow.python.eager import context

    return context.context()._rng


def global_generator() -> Any:
    """The generator of `tf.random.get_global_generator`; None where none exists. The public one creates it."""
    from tensorflow.python.ops import stateful_random_ops

    return stateful_random_ops.global_generator
