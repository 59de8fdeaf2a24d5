"""Sums of three and more from everywhere: how many results a race gives, and which sums reach execution in one piece.

`sums.py SOURCES`: the graphs, saved before the run, hold sums that nothing has replaced.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.eager import context

sources = Path(sys.argv[1])
rng = np.random.default_rng(0)
WEIGHT = tf.constant(rng.normal(size=(16, 16)).astype("float32"))
MANY = tf.constant(rng.normal(size=(8, 16, 16)).astype("float32"))
a, b, c, d = (tf.constant(rng.normal(size=8).astype("float32")) for _ in range(4))
VECTOR = tf.TensorSpec([8])


def raw_sum(*terms: Any) -> Any:
    return tf.raw_ops.AddN(inputs=[tf.sin(term) for term in terms])


def save() -> None:
    """A SavedModel, and the definition of a graph with a function in it."""
    module, inner = tf.Module(), tf.function(raw_sum)
    module.outer = tf.function(lambda *terms: inner(*terms) + raw_sum(*terms), input_signature=[VECTOR] * 4)
    tf.saved_model.save(module, str(sources / "saved"))
    graph = module.outer.get_concrete_function().graph
    (sources / "graph").write_bytes(graph.as_graph_def().SerializeToString())


def race(add: Callable[[list[Any]], Any]) -> Callable[[Any], list[Any]]:
    """Sums whose last term may be overwritten or not: its reader and the sum become ready at about the same time."""

    def step(many: Any) -> list[Any]:
        found = []
        for x in tf.unstack(many):
            last, other = tf.sin(x), tf.cos(x)
            reader = tf.matmul(last, WEIGHT)
            first = tf.matmul(other, WEIGHT)
            second = tf.exp(first * 1e-3)
            total = add([first, second, last])
            # Both are read after the sum, which therefore may not overwrite them.
            found += [total, tf.reduce_max(reader), first * total + second * total]
        return found

    return step


def results(step: Callable[[Any], list[Any]]) -> int:
    """How many different results 150 executions give, in a graph and in a pipeline."""
    traced, seen = tf.function(step), set()
    data = tf.data.Dataset.from_tensors(MANY).repeat(50).map(lambda many: tuple(step(many)), num_parallel_calls=2)
    for values in (*(traced(MANY) for _ in range(100)), *data):
        seen.add(hashlib.sha256(b"".join(value.numpy().tobytes() for value in values)).hexdigest())
    return len(seen)


def gradient(function: Callable[[Any], Any]) -> Callable[[], Any]:
    def compute() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(a)
            answer = tf.reduce_sum(function(a))
        return tape.gradient(answer, a)

    return compute


def four_uses(x: Any) -> Any:
    h = tf.sin(x)
    return tf.cos(h) * tf.exp(h) * tf.tanh(h) * h


def loop(x: Any) -> Any:
    h = x
    for _ in tf.range(3):
        h = tf.sin(h) * tf.cos(h) * tf.exp(-h * x) * x
    return h


WAYS: dict[str, Callable[[], Any]] = {
    "add_n": lambda: tf.add_n([tf.sin(a), tf.sin(b), tf.sin(c), d]),
    "raw": lambda: raw_sum(a, b, c, d),
    "plus": lambda: tf.sin(a) + tf.sin(b) + tf.sin(c) + tf.sin(d),
    "accumulate": lambda: tf.raw_ops.AccumulateNV2(inputs=[tf.sin(a), tf.sin(b), tf.sin(c)], shape=[8]),
    "gradient": gradient(four_uses),
    "gradient of a loop": gradient(tf.function(loop)),
    "gradient of a recomputation": gradient(tf.recompute_grad(four_uses)),
    "SavedModel": lambda: tf.saved_model.load(str(sources / "saved")).outer(a, b, c, d),
}


def terms_in(graphs: Iterable[Any]) -> int:
    """The most terms that a sum in these definitions has."""
    parts = [part for graph in graphs for part in (graph.node, *(item.node_def for item in graph.library.function))]
    found = [node.attr["N"].i for nodes in parts for node in nodes if node.op in {"AddN", "AccumulateNV2"}]
    return max(found, default=0)


def session() -> int:
    """The same of what a session of TensorFlow 1 executes: additions, and the saved graph with its function."""
    definition = graph_pb2.GraphDef.FromString((sources / "graph").read_bytes())
    names = [node.name for node in definition.node if node.op == "Placeholder"]
    graph, metadata = tf.Graph(), tf.compat.v1.RunMetadata()
    with graph.as_default(), tf.compat.v1.Session(config=tf.compat.v1.ConfigProto()) as running:
        inputs = [tf.compat.v1.placeholder(tf.float32, [8]) for _ in range(4)]
        # Grappler knows no shape of what is fed, and computes what is constant by itself.
        terms = [tf.random.uniform([8], seed=number) for number in range(4)]
        added = tf.exp(terms[0] + terms[1] + terms[2] + terms[3])
        given = {"input_map": dict(zip(names, inputs, strict=True)), "return_elements": [definition.node[-1].name]}
        (imported,) = tf.graph_util.import_graph_def(definition, **given)
        feed = dict(zip(inputs, (value.numpy() for value in (a, b, c, d)), strict=True))
        options = tf.compat.v1.RunOptions(output_partition_graphs=True)
        found = running.run([added, imported.outputs[0]], feed, options=options, run_metadata=metadata)
    assert np.allclose(found[1], 2 * sum(np.sin(value) for value in (a, b, c, d)), atol=1e-5)
    return terms_in(metadata.partition_graphs)


if not sources.exists():
    save()
    sys.exit()
adding: list[Callable[[list[Any]], Any]] = [tf.add_n, lambda terms: terms[0] + terms[1] + terms[2]]
answer: dict[str, Any] = {"races": [results(race(add)) for add in adding]}
context.context().enable_run_metadata()
answer["terms"] = {}
for name, way in WAYS.items():
    tf.function(way)()
    executed = context.context().export_run_metadata().function_graphs
    answer["terms"][name] = terms_in(found.post_optimization_graph for found in executed)
answer["terms"]["session"] = session()
context.context().disable_run_metadata()
eager = {name: way for name, way in WAYS.items() if name != "accumulate"}  # which TensorFlow only has in graphs
answer["wrong"] = [name for name, way in eager.items() if not np.allclose(tf.function(way)(), way(), atol=1e-5)]
print("sums", json.dumps(answer))
