"""Sums of three or more tensors in a fixed order.

TensorFlow's `AddN` begins with the first input whose memory it may overwrite (`aggregate_ops.h`), which depends on
whether other readers of that memory have finished: on timing, at any number of threads. The order of two terms does not
matter. So each `AddN` of three or more becomes a chain of `AddN` of two, wherever TensorFlow gets it from:

- Python, as `tf.add_n`, gradients of what is used several times, and losses: the functions that make the operation.
- Graphs from files, as SavedModels: their definitions, before they are imported.
- Grappler's arithmetic optimization, which makes one `AddN` of several additions: it is off, also in sessions.

`AccumulateNV2` adds in the order of arrival, and becomes such a chain as well. What sums inside the runtime, where no
order can be set, is recorded by name.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from samebits.runner.compat.patches import Patches
from samebits.runner.compat.tensorflow_private import (
    import_location,
    node_location,
    raw_sum_locations,
    session_location,
    sum_locations,
)
from samebits.runner.determinism.exact_ops import REWRITES

OPTIMIZATION = "arithmetic_optimization"
"""The part of Grappler that makes `AddN` of additions. Nothing switches off that one rewrite of it alone."""

_SUMS = ("AddN", "AccumulateNV2")
_INSIDE_THE_RUNTIME = ("SymbolicGradient", "TensorArrayGradV3", "TensorArrayGradWithShape")
"""Operations of TensorFlow 1 that sum gradients in C++, in the order of arrival or by `AddN`."""
_MARK = "in_pairs"


def order_sums(patches: Patches) -> None:
    """Fix the order of sums. Call it before anything is computed."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({OPTIMIZATION: False})
    (module, name), *others = sum_locations()
    add_n = _in_pairs(getattr(module, name))
    patches.replace(module, name, add_n)
    for location in (*others, *raw_sum_locations()):
        patches.wrap(location, functools.partial(_as_add_n, add_n=add_n))
    patches.wrap(import_location(), _importing_pairs)
    patches.wrap(session_location(), _without_rewrite)


def sums_are_ordered() -> bool:
    """Whether all of this is still in place."""
    import tensorflow as tf

    locations = (*sum_locations(), *raw_sum_locations(), import_location(), session_location())
    patched = all(hasattr(getattr(module, name), _MARK) for module, name in locations)
    return patched and tf.config.optimizer.get_experimental_options().get(OPTIMIZATION) is False


def _in_pairs(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def add_n(inputs: Any, name: str | None = None) -> Any:
        if not isinstance(inputs, (list, tuple)) or len(inputs) < 3:
            return original(inputs, name)
        tensors = _of_one_type(inputs)
        if not _rounds(tensors[0].dtype):
            return original(tensors, name)
        total = functools.reduce(lambda total, tensor: original([total, tensor]), tensors[:-1])
        return original([total, tensors[-1]], name)

    return _marked(add_n)


def _of_one_type(inputs: Sequence[Any]) -> list[Any]:
    """As tensors of the type that the first tensor among them has, as the original converts them."""
    import tensorflow as tf

    kind = next((value.dtype for value in inputs if tf.is_tensor(value)), None)
    return [tf.convert_to_tensor(value, kind) for value in inputs]


def _rounds(kind: Any) -> bool:
    """Whether the order of a sum changes it. Whole numbers have one sum, and variants are added in a fixed order."""
    return bool(kind.is_floating or kind.is_complex)


def _as_add_n(original: Callable[..., Any], add_n: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def as_add_n(inputs: Any, *_: Any, name: str | None = None, **__: Any) -> Any:
        # `AccumulateNV2` is also given the shape that its inputs have.
        return add_n(inputs, name)

    return _marked(as_add_n)


def _importing_pairs(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def import_graph(graph_def: Any, *arguments: Any, **options: Any) -> Any:
        return original(sums_in_pairs(graph_def), *arguments, **options)

    return _marked(import_graph)


def sums_in_pairs(graph_def: Any) -> Any:
    """A graph's definition with its sums, also those of its functions, as chains of sums of two."""
    bodies = [(graph_def.node, ""), *((function.node_def, ":sum:0") for function in graph_def.library.function)]
    if not any(_is_unordered(node) for nodes, _ in bodies for node in nodes):
        return graph_def
    copy = type(graph_def)()
    copy.CopyFrom(graph_def)
    _chain_sums(copy.node, "")
    for function in copy.library.function:
        _chain_sums(function.node_def, ":sum:0")
    return copy


def _is_unordered(node: Any) -> bool:
    import tensorflow as tf

    if node.op not in _SUMS or node.attr["N"].i < 3:
        return False
    # A type that a function takes as an attribute is known where it is called.
    return not node.attr["T"].type or _rounds(tf.as_dtype(node.attr["T"].type))


def _chain_sums(nodes: Any, output: str) -> None:
    """Replace each sum by a chain that ends in a node of its name. `output` follows a node's name where it is read."""
    for node in [node for node in nodes if _is_unordered(node)]:
        first, *others, last = [name for name in node.input if not name.startswith("^")]
        waits = [name for name in node.input if name.startswith("^")]
        for number, term in enumerate(others):
            inner = nodes.add(name=f"{node.name}/in_pairs_{number}", op="AddN", device=node.device, input=[first, term])
            _set_pair(inner, node.attr["T"])
            first = inner.name + output
        node.op = "AddN"
        node.input[:] = [first, last, *waits]
        node.attr.pop("shape", None)
        _set_pair(node, node.attr["T"])


def _set_pair(node: Any, kind: Any) -> None:
    node.attr["N"].i = 2
    node.attr["T"].CopyFrom(kind)


def _without_rewrite(original: Callable[..., Any]) -> Callable[..., Any]:
    """A session of TensorFlow 1 that is given a configuration follows no other options."""

    @functools.wraps(original)
    def options(target: Any = None, config: Any = None) -> Any:
        return original(target, None if config is None else _rewrites_as_here(config))

    return _marked(options)


def _rewrites_as_here(config: Any) -> Any:
    """A copy that has the rewrites off which are off in this run."""
    import tensorflow as tf

    copy = type(config)()
    copy.CopyFrom(config)
    rewrites, options = copy.graph_options.rewrite_options, tf.config.optimizer.get_experimental_options()
    for name in REWRITES:
        if options.get(name) is False:
            setattr(rewrites, name, type(rewrites).OFF)
    return copy


def _marked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`sums_are_ordered` looks for this mark."""
    setattr(function, _MARK, True)
    return function


class SumRecorder:
    """Records the operations whose order of summing nothing fixes, as they are put into graphs."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def install(self, patches: Patches) -> None:
        """Wrap the function that creates the nodes of graphs."""
        patches.wrap(node_location(), self._wrap)

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def create_op(graph: Any, kind: str, inputs: Any, *arguments: Any, **options: Any) -> Any:
            if kind in _INSIDE_THE_RUNTIME:
                self.found.add(kind)
            elif is_unordered_sum(kind, inputs) and _rounds(inputs[0].dtype):
                self.found.add(unordered_sum(kind, inputs[0].dtype.name))
            return original(graph, kind, inputs, *arguments, **options)

        return create_op


def is_unordered_sum(kind: str, inputs: Sequence[Any]) -> bool:
    """Whether an operation adds three tensors or more at once."""
    return kind in _SUMS and len(inputs) > 2


def unordered_sum(kind: str, dtype: str) -> str:
    """The name by which a sum of three or more is recorded: that of two is another operation, which is proven."""
    return f"{kind}(3+) {dtype}"
