"""Decides which tensors of a graph can be read without changing how TensorFlow optimizes the graph.

Before a graph runs, Grappler rewrites it: it fuses nodes and moves factors. Many rewrites require that a tensor has one
reader only, and a tap is a second one. Without the rewrite, the same values may be rounded differently. So Grappler is
run in advance, with the run's own options, on the graph with the taps and without them.

There is one exception. The order in which `AddN` adds depends on who else refers to its inputs (`ordered_sums`). So a
reader of one of three or more inputs can change the sum. Such sums only remain where a script puts them into its graph
by itself, and their inputs are never tapped.
"""

import re
from collections.abc import Mapping
from typing import Any

from samebits.core.digest import Digest
from samebits.runner.compat.tensorflow_private import is_commutative, is_stateful, optimize_graph
from samebits.runner.determinism.op_audit import unwatched
from samebits.runner.determinism.ordered_sums import is_unordered_sum
from samebits.runner.trace.optimizer_tap import TAP

_CPU = "/job:localhost/replica:0/task:0/device:CPU:0"
_MAX_ATTEMPTS = 4

_SHARE_MEMORY = {"EnsureShape", "ExpandDims", "Identity", "PreventGradient", "Reshape", "Slice", "Squeeze"}
_SHARE_MEMORY |= {"StopGradient", "StridedSlice", "Unpack"}
"""Operations whose output may share the memory of their input."""

Nodes = dict[str, Any]


def harmless_tensors(graph: Any, tensors: Mapping[str, Any]) -> set[str] | None:
    """The names of the tensors that can be read without changing any node of the optimized graph.

    A tensor that exists only if it is read would have been fused, and is left out. If nodes still differ, the tensors
    around them are left out, too. Returns None if that does not help: then no tensor may be read.
    """
    with unwatched():
        definition = graph.as_graph_def(add_shapes=True)
    # Grappler removes nodes that no kept node needs.
    kept = [output.op.name for output in graph.outputs] + [operation.name for operation in graph.control_outputs]
    for node in definition.node:
        # Some rewrites apply only to nodes with a device, which is assigned later.
        node.device = node.device or _CPU
    same = _same_nodes(graph, definition)
    without = _optimized_nodes(definition, kept, same, {})
    summed = _summed(graph)
    remaining = {name: tensor for name, tensor in tensors.items() if _origin(tensor.op).name not in summed}
    for _ in range(_MAX_ATTEMPTS):
        found = _optimized_nodes(definition, kept, same, remaining)
        different = {name for name in without.keys() | found.keys() if without.get(name) != found.get(name)}
        if not different:
            return set(remaining)
        culprits = _culprits(remaining, same, different, added=set(found.keys() - without.keys()))
        remaining = {name: tensor for name, tensor in remaining.items() if name not in culprits}
        if not culprits:
            break
    return None


def _culprits(tensors: Mapping[str, Any], same: Mapping[str, str], different: set[str], *, added: set[str]) -> set[str]:
    """The names of the tensors whose taps probably made nodes `different`, or `added` them."""
    # A node that exists only with the taps was fused without them.
    fused = {name for name, tensor in tensors.items() if same[tensor.op.name] in added}
    # If no fused tensor explains the difference, suspect the neighbours of the nodes that differ.
    return fused or {name for name, tensor in tensors.items() if _neighbours(tensor, same) & different}


def _summed(graph: Any) -> set[str]:
    """Nodes whose memory may reach a sum of three or more terms, whose order nothing fixes."""
    sums = (operation for operation in graph.get_operations() if is_unordered_sum(operation.type, operation.inputs))
    return {_origin(term.op).name for operation in sums for term in operation.inputs}


def _origin(operation: Any) -> Any:
    """The operation that allocates the memory of an output."""
    while operation.type in _SHARE_MEMORY:
        operation = operation.inputs[0].op
    return operation


def _neighbours(tensor: Any, same: Mapping[str, str]) -> set[str]:
    """A tensor's node, the nodes that it reads, and the nodes that read it."""
    nodes = (tensor.op, *(source.op for source in tensor.op.inputs), *tensor.consumers())
    return {same[node.name] for node in nodes}


def _same_nodes(graph: Any, definition: Any) -> dict[str, str]:
    """One name for all nodes that compute the same. Grappler keeps any one of them."""
    # Stateful nodes are never merged: each has an effect of its own.
    own = {operation.name for operation in graph.get_operations() if is_stateful(operation)}
    found: dict[str, str] = {}
    for node in definition.node:  # each comes after what it reads
        if node.name in own or node.op == "Placeholder":
            found[node.name] = node.name
        else:
            found[node.name] = _constant_name(node) or str(Digest.of_bytes(repr(_computation(node, found)).encode()))
    return found


def _constant_name(node: Any) -> str | None:
    """One name for all constants with the same value; None for other nodes."""
    import tensorflow as tf

    if node.op != "Const":
        return None
    value = tf.make_ndarray(node.attr["value"].tensor)
    return f"{value.dtype} {value.shape} {Digest.of_bytes(value.tobytes())}"


def _computation(node: Any, same: Mapping[str, str]) -> tuple[Any, ...]:
    """What a node computes: operation, inputs and attributes, without control dependencies."""
    written = {name: value.SerializeToString(deterministic=True) for name, value in node.attr.items()}
    # Attributes with an underscore are annotations, such as inferred shapes.
    attributes = sorted((name, value) for name, value in written.items() if not name.startswith("_"))
    inputs = [name.partition(":") for name in node.input if not name.startswith("^")]
    if len(inputs) == 2 and is_commutative(node.op):  # Grappler sorts inputs by name
        inputs.sort(key=lambda parts: same.get(parts[0], parts[0]))
    return (
        node.op,
        tuple((_without_inline_numbers(same.get(name, name)), port or "0") for name, _, port in inputs),
        tuple(attributes),
    )


def _optimized_nodes(definition: Any, kept: list[str], same: Mapping[str, str], tapped: Mapping[str, Any]) -> Nodes:
    """The nodes of the optimized graph except the tap, and what they compute."""
    import tensorflow as tf

    graph = tf.compat.v1.MetaGraphDef()
    graph.graph_def.CopyFrom(definition)
    if tapped:
        graph.graph_def.node.append(_tap_node(tapped))
    # Grappler keeps what `train_op` lists.
    graph.collection_def["train_op"].node_list.value.extend([*kept, TAP] if tapped else kept)
    optimized = optimize_graph(graph, _CPU)
    nodes = [node for node in optimized.node if node.name != TAP and node.op != "NoOp"]
    # Constant folding creates new constants, which are compared by their values.
    names = {**same, **{node.name: name for node in nodes if (name := _constant_name(node))}}
    found: Nodes = {}
    for node in nodes:
        found.setdefault(_without_inline_numbers(names.get(node.name, node.name)), []).append(_computation(node, names))
    return {name: sorted(contents) for name, contents in found.items()}


def _without_inline_numbers(name: str) -> str:
    """A name without the numbers that Grappler adds when it inlines loops, in no fixed order."""
    return re.sub(r"/_\d+", "", name)


def _tap_node(tapped: Mapping[str, Any]) -> Any:
    import tensorflow as tf

    node = tf.compat.v1.NodeDef(name=TAP, op="EagerPyFunc", device=_CPU, input=[*tapped])
    types = tf.compat.v1.AttrValue.ListValue(type=[tensor.dtype.as_datatype_enum for tensor in tapped.values()])
    node.attr["Tin"].list.CopyFrom(types)
    node.attr["Tout"].list.CopyFrom(tf.compat.v1.AttrValue.ListValue())
    node.attr["token"].s = b""
    node.attr["is_async"].b = False
    return node
