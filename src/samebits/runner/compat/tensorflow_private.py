"""Private names of TensorFlow, tested with 2.21.0."""

from collections.abc import Callable, Sequence
from typing import Any

from samebits.runner.compat.patches import PatchTarget


def eager_values(tensor: Any) -> Any:
    """The values of an eager tensor in TensorFlow's own memory, where `numpy()` returns a copy.

    Raises AttributeError for a symbolic tensor.
    """
    values = tensor._numpy()
    if isinstance(values, bytes):  # a single string
        import numpy as np

        return np.array(values, "O")
    return values


def read_together(variables: Sequence[Any]) -> list[Any]:
    """The values of variables of one device in TensorFlow's own memory, all by one operation.

    A tenth of the time of single reads: 0.9 ms for 750 variables. Raises AttributeError for a variable without a
    handle, and TensorFlow's OpError where it cannot read them at once.
    """
    from tensorflow.python.eager import context, execute

    handles = [variable.handle for variable in variables]
    types = [variable.dtype.as_datatype_enum for variable in variables]
    if not handles:
        return []
    attributes = ("N", len(handles), "dtypes", types)
    read = execute.quick_execute("_ReadVariablesOp", len(handles), handles, attributes, context.context())
    return [eager_values(tensor) for tensor in read]


def is_eager(tensor: Any) -> bool:
    """Whether a tensor has values, and is not symbolic."""
    return hasattr(tensor, "_numpy")


# Functions and methods that are wrapped.


def tracing_location() -> PatchTarget:
    """The function that traces Python functions into graphs."""
    from tensorflow.python.framework import func_graph

    return func_graph, "func_graph_from_py_func"


def node_location() -> PatchTarget:
    """The method that creates every node of a graph."""
    from tensorflow.python.framework import ops

    return ops.Graph, "_create_op_internal"


def first_trace_location() -> PatchTarget:
    """The method that traces a `tf.function` for the first time."""
    from tensorflow.python.eager.polymorphic_function import polymorphic_function

    return polymorphic_function.Function, "_initialize"


def call_location() -> PatchTarget:
    """The method that calls a `tf.function`."""
    from tensorflow.python.eager.polymorphic_function import polymorphic_function

    return polymorphic_function.Function, "__call__"


def identity_set_location() -> PatchTarget:
    """Where a set of objects by their identity is made."""
    from tensorflow.python.util import object_identity

    return object_identity.ObjectIdentitySet, "__init__"


def exported_graph_location() -> PatchTarget:
    """Where what `saved_model.pb` will hold is made: the first of what it returns."""
    from tensorflow.python.saved_model import save

    return save, "_build_meta_graph"


def checkpoint_state_location() -> PatchTarget:
    """Where the content of the file `checkpoint` is made."""
    from tensorflow.python.checkpoint import checkpoint_management

    return checkpoint_management, "generate_checkpoint_state_proto"


def store_identities(made: Any, storage: Any) -> None:
    """Set where such a set keeps its objects."""
    made._storage = storage


def is_jit_compiled(function: Any) -> bool:
    """Whether a `tf.function` was created with `jit_compile=True`."""
    return bool(function._jit_compile)


def jit_scope_locations() -> list[PatchTarget]:
    """The function that compiles part of a graph with XLA, under each of its names."""
    import tensorflow as tf
    from tensorflow.python.compiler.xla import jit

    return [(tf.xla.experimental, "jit_scope"), (jit, "experimental_jit_scope")]


def execute_locations() -> tuple[PatchTarget, list[PatchTarget]]:
    """The functions that execute an eager operation: the fast path, then the two that take a list of inputs."""
    from tensorflow.python import pywrap_tfe

    slow = [(pywrap_tfe, "TFE_Py_Execute"), (pywrap_tfe, "TFE_Py_ExecuteCancelable")]
    return (pywrap_tfe, "TFE_Py_FastPathExecute"), slow


def bincount_locations() -> list[PatchTarget]:
    """The functions that compute `bincount`, which may have weights."""
    from tensorflow.python.ops import gen_math_ops

    names = ("bincount", "dense_bincount", "ragged_bincount", "sparse_bincount")
    return [(gen_math_ops, name) for name in names]


def pool_locations(setting: str) -> list[PatchTarget]:
    """The function that sets the size of a thread pool, wherever a script looks it up."""
    import tensorflow as tf

    name = f"set_{setting.split('_')[2].replace('OP', '_op').lower()}_parallelism_threads"
    modules = (tf.config.threading, tf.compat.v1.config.threading, tf.compat.v2.config.threading)
    return [(module, name) for module in modules]


def sum_locations() -> list[PatchTarget]:
    """The functions that make `AddN`, then those that make `AccumulateNV2`."""
    from tensorflow.python.ops import gen_math_ops

    return [(gen_math_ops, "add_n"), (gen_math_ops, "accumulate_nv2")]


def raw_sum_locations() -> list[PatchTarget]:
    """The same in `tf.raw_ops`, under each of its names."""
    import tensorflow as tf
    from tensorflow.python.ops import gen_math_ops

    modules = (tf.raw_ops, tf.compat.v1.raw_ops, tf.compat.v2.raw_ops, gen_math_ops)
    return [(module, name) for module in modules for name in ("AddN", "AccumulateNV2")]


def import_location() -> PatchTarget:
    """The function that imports the definition of a graph: of a file, or of one of its functions."""
    from tensorflow.python.framework import importer

    return importer, "_import_graph_def_internal"


def session_location() -> PatchTarget:
    """The function that makes the options of a session of TensorFlow 1, of its configuration."""
    from tensorflow.python.client import pywrap_tf_session

    return pywrap_tf_session, "TF_NewSessionOptions"


def math_locations(name: str) -> list[PatchTarget]:
    """A function of `tf.math`, or `gelu` of `tf.nn`, wherever Keras and TensorFlow look it up."""
    import tensorflow as tf
    from tensorflow.python.ops import gen_math_ops, math_ops, nn_ops

    modules = (tf.nn, nn_ops) if name == "gelu" else (tf.math, math_ops, gen_math_ops)
    return [(module, name) for module in modules]


# Graphs and tapes.


def in_xla_context() -> bool:
    """Whether XLA will compile the graph that is being traced."""
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def tape_records() -> bool:
    """Whether a gradient tape is recording in this thread."""
    from tensorflow.python.eager import record

    return bool(record.could_possibly_record())


def run_after(operation: Any, earlier: Any) -> None:
    """Make one node of a traced graph wait for another. `tf.control_dependencies` works for new nodes only."""
    operation._add_control_input(earlier)


def is_stateful(operation: Any) -> bool:
    """Whether Grappler assumes that executing a node has side effects."""
    return bool(operation._is_stateful)


def is_commutative(operation_type: str) -> bool:
    """Whether Grappler may swap the inputs of an operation."""
    from tensorflow.python.framework import op_def_registry

    return bool(op_def_registry.get(operation_type).is_commutative)


def optimize_graph(graph: Any, device: str) -> Any:
    """The `GraphDef` that Grappler optimizes a `MetaGraphDef` to, with this process's options, on one CPU."""
    import tensorflow as tf
    from tensorflow.core.protobuf import device_properties_pb2
    from tensorflow.python.eager import context
    from tensorflow.python.grappler import cluster, tf_optimizer

    # Grappler needs a cluster. A CPU of fixed properties makes its answer the same on every machine.
    config = tf.compat.v1.ConfigProto()
    config.CopyFrom(context.context().config)
    properties = device_properties_pb2.DeviceProperties(type="CPU", num_cores=1, frequency=1000)
    devices = [device_properties_pb2.NamedDevice(name=device, properties=properties)]
    return tf_optimizer.OptimizeGraph(config, graph, verbose=False, cluster=cluster.Cluster(devices=devices))


def original_line(file: str, line: int) -> tuple[str, int] | None:
    """The script's file and line behind a line of AutoGraph's generated code; None where there is none."""
    from tensorflow.python.autograph.impl import api
    from tensorflow.python.autograph.pyct import origin_info

    generated = origin_info.LineLocation(filename=file, lineno=line)
    # A copy: another thread may convert a function meanwhile.
    for versions in list(api._TRANSPILER._cache._cache.values()):
        for factory in versions.values():
            origin = factory.source_map.get(generated)
            if origin is not None:
                return origin.loc.filename, origin.loc.lineno
    return None


# Settings.


def op_determinism_is_on() -> bool:
    """Whether `enable_op_determinism` took effect."""
    from tensorflow.python.framework.config import is_op_determinism_enabled

    return bool(is_op_determinism_enabled())


def onednn_is_on() -> bool:
    """Whether this build uses oneDNN's kernels, as `TF_ENABLE_ONEDNN_OPTS` asks."""
    from tensorflow.python.util import _pywrap_util_port

    return bool(_pywrap_util_port.IsMklEnabled())


def names_its_threads() -> bool:
    """Whether the threads of TensorFlow's pools have names, as they do since 2.21."""
    import tensorflow as tf

    return tuple(int(part) for part in tf.__version__.split(".")[:2]) >= (2, 21)


# tf.data pipelines.


def iterator_handle(iterator: Any) -> Any:
    """The resource of an iterator. Raises AttributeError where it has none, as in a graph."""
    return iterator._iterator_resource


def source_datasets(dataset: Any) -> Sequence[Any]:
    """The datasets that a dataset takes its elements from."""
    sources: Sequence[Any] = getattr(dataset, "_inputs", list)()
    return sources


def dataset_functions(dataset: Any) -> Sequence[Any]:
    """The traced functions that a dataset applies."""
    functions: Callable[[], Sequence[Any]] = getattr(dataset, "_functions", list)
    return [wrapped.function for wrapped in functions()]


def shuffle_location() -> PatchTarget:
    """The method that creates a dataset that shuffles."""
    from tensorflow.python.data.ops import shuffle_op

    return shuffle_op._ShuffleDataset, "__init__"


def reshuffles_each_iteration(dataset: Any) -> bool:
    """Whether a dataset has another order, or other random numbers, each time it is opened."""
    return any(getattr(dataset, name, False) for name in ("_reshuffle_each_iteration", "_rerandomize"))


def variable_type(handle: Any) -> Any:
    """The element type of the variable that a captured resource stands for; None for any other resource."""
    import tensorflow as tf

    data = getattr(handle, "_handle_data", None)
    if data is None or not data.is_set or len(data.shape_and_type) != 1:
        return None
    return tf.as_dtype(data.shape_and_type[0].dtype)


# Kinds of objects.


def is_trackable(value: Any) -> bool:
    """Whether TensorFlow tracks the attributes of an object, as those of a `tf.Module`."""
    from tensorflow.python.trackable.base import Trackable

    return isinstance(value, Trackable)


def python_function(value: Any) -> Any:
    """The Python function inside a `tf.function`; None for other values."""
    from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

    return value.python_function if isinstance(value, Function) else None


def method_owner(function: Any) -> Any:
    """The object that a method belongs to, also inside a `tf.function`; None for other functions."""
    owner = getattr(function, "__self__", None)
    # A `tf.function` holds it weakly.
    return getattr(owner, "target", owner) if type(owner).__name__ == "TfMethodTarget" else owner


def graph_kinds() -> tuple[type, ...]:
    """The class of one traced graph of a `tf.function`."""
    from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction

    return (ConcreteFunction,)


def container_kinds() -> tuple[type, ...]:
    """The classes of the objects that stand for variables, lists, dicts and parts in a `tf.Module`."""
    from tensorflow.python.trackable.base import TrackableReference
    from tensorflow.python.trackable.data_structures import TrackableDataStructure
    from tensorflow.python.util.object_identity import Reference

    return (TrackableDataStructure, TrackableReference, Reference)
