"""Which tensors of a graph can be read without a change of what TensorFlow makes of the graph.

Before a graph is run, Grappler rewrites it: it fuses nodes, and moves factors. Many a rewriting asks that a tensor has
one reader only, and a tap is a second one; fused or not, the same values may be rounded otherwise. So Grappler is asked
beforehand, with the run's own options, what it makes of the graph with the taps and without.

One operation's order of adding hangs on who else holds its inputs: `AddN` begins with one whose memory it may write to
(TensorFlow 2.21, `aggregate_ops.cc`), so that a reader of one among three or more can change the sum. Grappler makes
an `AddN` where it knows the shapes of what is added, which may be within the graph that holds this one only; so chains
of additions are left alone, whatever it makes of them here.
"""

import re
from collections.abc import Mapping
from typing import Any

from samebits.core.digest import Digest
from samebits.runner.compat.tensorflow_private import is_commutative, is_stateful, optimize_graph
from samebits.runner.determinism.op_audit import unwatched
from samebits.runner.trace.optimizer_tap import TAP

_CPU = "/job:localhost/replica:0/task:0/device:CPU:0"
_ROUNDS = 4

_ADDING = {"Add", "AddN", "AddV2"}
_SHARING = {"EnsureShape", "ExpandDims", "Identity", "PreventGradient", "Reshape", "Slice", "Squeeze"}
_SHARING |= {"StopGradient", "StridedSlice", "Unpack"}
"""Operations that may give the memory of their input on."""

Nodes = dict[str, Any]


def unchanging(graph: Any, tensors: Mapping[str, Any]) -> set[str] | None:
    """The names of those tensors of a traced graph whose reading leaves all its nodes as they would be.

    A tensor that is there only if it is read was fused into another, and is left out; if nodes still differ, so are the
    tensors around these. None where that does not help: then none may be read.
    """
    with unwatched():
        definition = graph.as_graph_def(add_shapes=True)
    kept = [output.op.name for output in graph.outputs] + [operation.name for operation in graph.control_outputs]
    for node in definition.node:
        node.device = node.device or _CPU
    same = _same_nodes(graph, definition)
    without = _rewritten(definition, kept, same, {})
    summed = _summed(graph)
    left = {name: tensor for name, tensor in tensors.items() if _origin(tensor.op).name not in summed}
    for _ in range(_ROUNDS):
        found = _rewritten(definition, kept, same, left)
        different = {name for name in without.keys() | found.keys() if without.get(name) != found.get(name)}
        if not different:
            return set(left)
        new = found.keys() - without.keys()
        culprits = {name for name, tensor in left.items() if same[tensor.op.name] in new}
        culprits = culprits or {name for name, tensor in left.items() if _around(tensor, same) & different}
        left = {name: tensor for name, tensor in left.items() if name not in culprits}
        if not culprits:
            break
    return None


def _summed(graph: Any) -> set[str]:
    """The nodes whose memory comes to a sum of three or more, or may, as Grappler makes one `AddN` of several `Add`."""
    found = set()
    for operation in graph.get_operations():
        if operation.type not in _ADDING:
            continue
        inner = [source.op for source in operation.inputs if source.op.type in _ADDING and len(source.consumers()) == 1]
        terms = [*operation.inputs, *(term for other in inner for term in other.inputs)]
        if len(terms) > 2 and all(term.shape.is_compatible_with(terms[0].shape) for term in terms):
            found |= {_origin(term.op).name for term in terms}
    return found


def _origin(operation: Any) -> Any:
    """Where the memory of an operation's output comes from."""
    while operation.type in _SHARING:
        operation = operation.inputs[0].op
    return operation


def _around(tensor: Any, same: Mapping[str, str]) -> set[str]:
    """A tensor's node, those that it reads, and those that read it."""
    nodes = (tensor.op, *(source.op for source in tensor.op.inputs), *tensor.consumers())
    return {same[node.name] for node in nodes}


def _same_nodes(graph: Any, definition: Any) -> dict[str, str]:
    """One name for all nodes that compute the same: of such Grappler keeps one, and which one says nothing."""
    own = {operation.name for operation in graph.get_operations() if is_stateful(operation)}
    found: dict[str, str] = {}
    for node in definition.node:  # each comes after what it reads
        if node.name in own or node.op == "Placeholder":
            found[node.name] = node.name
        else:
            found[node.name] = _constant(node) or str(Digest.of_bytes(repr(_content(node, found)).encode()))
    return found


def _constant(node: Any) -> str | None:
    """One name for all constants of one value."""
    import tensorflow as tf

    if node.op != "Const":
        return None
    value = tf.make_ndarray(node.attr["value"].tensor)
    return f"{value.dtype} {value.shape} {Digest.of_bytes(value.tobytes())}"


def _content(node: Any, same: Mapping[str, str]) -> tuple[Any, ...]:
    """What a node computes: operation, inputs and attributes; not what it waits for."""
    written = {name: value.SerializeToString(deterministic=True) for name, value in node.attr.items()}
    attributes = sorted((name, value) for name, value in written.items() if not name.startswith("_"))  # notes on shapes
    inputs = [name.partition(":") for name in node.input if not name.startswith("^")]
    if len(inputs) == 2 and is_commutative(node.op):  # Grappler sorts them by their names
        inputs.sort(key=lambda parts: same.get(parts[0], parts[0]))
    return (
        node.op,
        tuple((_plain(same.get(name, name)), port or "0") for name, _, port in inputs),
        tuple(attributes),
    )


def _rewritten(definition: Any, kept: list[str], same: Mapping[str, str], tapped: Mapping[str, Any]) -> Nodes:
    """The nodes that Grappler leaves, but for the tap, and what they compute."""
    import tensorflow as tf

    graph = tf.compat.v1.MetaGraphDef()
    graph.graph_def.CopyFrom(definition)
    if tapped:
        graph.graph_def.node.append(_tap_node(tapped))
    graph.collection_def["train_op"].node_list.value.extend([*kept, TAP] if tapped else kept)
    rewritten = optimize_graph(graph, _CPU)
    nodes = [node for node in rewritten.node if node.name != TAP and node.op != "NoOp"]
    names = {**same, **{node.name: name for node in nodes if (name := _constant(node))}}
    found: Nodes = {}
    for node in nodes:
        found.setdefault(_plain(names.get(node.name, node.name)), []).append(_content(node, names))
    return {name: sorted(contents) for name, contents in found.items()}


def _plain(name: str) -> str:
    """A name without the numbers by which Grappler tells apart what it lays open of loops, in an order of its own."""
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
