"""The features of samebits that use private names, and the names that each one needs.

A name is written `module:attribute.attribute`. `module:Class#attribute` is an attribute of a class's objects.
`module:Class.new|old` is the first of these that exists.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """A part of a run that needs private names.

    An `essential` feature is needed for the result itself. Its effect is read back or digested. So an unknown library
    version may run it, as long as the names have the form of the newest known version. Any other feature is off there.
    """

    name: str
    needs: tuple[str, ...]
    essential: bool = False


_OPTIMIZER_VARIABLES = "keras.optimizers:Optimizer#_trainable_variables"
_LAYERS = "keras:Model._flatten_layers"
_FUNCTIONAL = "keras:Sequential#_functional"
_GLOBAL_STATE = "keras.src.backend.common.global_state:get_global_attribute"
_CONTEXT = "tensorflow.python.eager.context:context"
_EAGER_VALUES = "tensorflow.python.framework.ops:EagerTensor._numpy"
_TRACING = "tensorflow.python.framework.func_graph:func_graph_from_py_func"
_NODES = "tensorflow.python.framework.ops:Graph._create_op_internal"
_MATH = ("tensorflow.python.ops.gen_math_ops", "tensorflow.python.ops.math_ops")
_RANDOM = (
    *("multinomial", "random_gamma", "random_poisson_v2", "random_shuffle", "random_standard_normal"),
    *("random_uniform", "random_uniform_int", "truncated_normal"),
)

SETTINGS = Feature(
    name="reading the settings back",
    essential=True,
    needs=(
        _GLOBAL_STATE,
        "tensorflow.python.eager.context:global_seed",
        "tensorflow.python.framework.config:is_op_determinism_enabled",
        "tensorflow.python.util._pywrap_util_port:IsMklEnabled",
        "numpy._core._multiarray_umath:__cpu_baseline__",
        "numpy._core._multiarray_umath:__cpu_dispatch__",
        "numpy._core._multiarray_umath:__cpu_features__",
    ),
)
OBSERVER = Feature(
    name="observing the training",
    essential=True,
    needs=(
        _OPTIMIZER_VARIABLES,
        _LAYERS,
        _FUNCTIONAL,
        "keras:Variable#_value",
        "keras.callbacks:CallbackList#_async_train",
        _EAGER_VALUES,
    ),
)
BINCOUNT_GUARD = Feature(
    name="the guard of bincount",
    essential=True,
    needs=tuple(
        f"tensorflow.python.ops.gen_math_ops:{name}"
        for name in ("bincount", "dense_bincount", "ragged_bincount", "sparse_bincount")
    ),
)
OP_AUDIT = Feature(
    name="the audit of operations",
    essential=True,
    needs=(
        "tensorflow.python.pywrap_tfe:TFE_Py_FastPathExecute",
        "tensorflow.python.pywrap_tfe:TFE_Py_Execute",
        "tensorflow.python.pywrap_tfe:TFE_Py_ExecuteCancelable",
        _NODES,
        "tensorflow.python.compiler.xla.jit:experimental_jit_scope",
        "tensorflow.python.eager.polymorphic_function.polymorphic_function:Function._initialize",
        "tensorflow.python.eager.polymorphic_function.polymorphic_function:Function#_jit_compile",
    ),
)
EXACT_OPS = Feature(
    name="exact operations",
    essential=True,
    needs=(
        "keras.src.backend.tensorflow.linalg:qr",
        "tensorflow.python.ops.nn_ops:gelu",
        *(f"{module}:{name}" for module in _MATH for name in ("reciprocal", "rsqrt", "erfc")),
    ),
)
ORDERED_SUMS = Feature(
    name="the order of sums",
    essential=True,
    needs=(
        "tensorflow.python.ops.gen_math_ops:add_n",
        "tensorflow.python.ops.gen_math_ops:accumulate_nv2",
        "tensorflow.python.ops.gen_math_ops:AddN",
        "tensorflow.python.ops.gen_math_ops:AccumulateNV2",
        "tensorflow.python.framework.importer:_import_graph_def_internal",
        "tensorflow.python.client.pywrap_tf_session:TF_NewSessionOptions",
        _NODES,
    ),
)
EXACT_RESUME = Feature(
    name="exact resume",
    needs=(
        _OPTIMIZER_VARIABLES,
        _LAYERS,
        _FUNCTIONAL,
        _GLOBAL_STATE,
        "keras:Model#_initial_epoch",
        "keras:Model#_compile_metrics",
        "keras:Model#_eval_epoch_iterator",
        "keras:Model._symbolic_build",
        "keras.callbacks:CallbackList._flush_futures|_clear_futures",
        "keras.src.backend.tensorflow.trainer:TFEpochIterator",
        "keras.src.backend.tensorflow.trainer:TFEpochIterator._enumerate_iterator",
        "keras.src.backend.tensorflow.trainer:TFEpochIterator._get_iterator",
        "keras.src.backend.tensorflow.trainer:TFEpochIterator#_current_iterator",
        "keras.src.backend.tensorflow.trainer:TFEpochIterator#_distributed_dataset",
        "keras.src.backend.tensorflow.trainer:TFEpochIterator#_num_batches",
        "keras.src.backend.tensorflow.trainer:TFEpochIterator#_steps_seen",
        "keras.src.ops.node:Node",
        "keras.src.random.seed_generator:global_seed_generator",
        "keras.src.trainers.compile_utils:CompileMetrics#_user_metrics",
        "keras.src.trainers.data_adapters.array_data_adapter:ArrayDataAdapter",
        "keras.src.trainers.data_adapters.py_dataset_adapter:PyDatasetAdapter",
        "keras.src.trainers.data_adapters.tf_dataset_adapter:TFDatasetAdapter",
        _CONTEXT,
        _EAGER_VALUES,
        _TRACING,
        "tensorflow.python.eager.context:Context#_rng",
        "tensorflow.python.eager.context:Context#_seed",
        "tensorflow.python.data.ops.dataset_ops:DatasetV2._functions",
        "tensorflow.python.data.ops.dataset_ops:DatasetV2._inputs",
        "tensorflow.python.data.ops.iterator_ops:OwnedIterator#_iterator_resource",
        "tensorflow.python.data.ops.random_op:_RandomDataset#_rerandomize",
        "tensorflow.python.data.ops.shuffle_op:_ShuffleDataset",
        "tensorflow.python.data.ops.shuffle_op:_ShuffleDataset#_reshuffle_each_iteration",
        "tensorflow.python.eager.polymorphic_function.concrete_function:ConcreteFunction",
        "tensorflow.python.eager.polymorphic_function.polymorphic_function:Function",
        "tensorflow.python.framework.ops:EagerTensor._handle_data",
        "tensorflow.python.ops.stateful_random_ops:global_generator",
        "tensorflow.python.trackable.base:Trackable",
        "tensorflow.python.trackable.base:TrackableReference",
        "tensorflow.python.trackable.data_structures:TrackableDataStructure",
        "tensorflow.python.util.object_identity:Reference",
        "numpy.random.mtrand:_rand",
        "random:_inst",
        "sys:_current_frames",
        "weakref:finalize._registry",
        "tensorflow.python.data.ops.structured_function:StructuredFunctionWrapper",
        "tensorflow.python.eager.context:Context._set_global_seed",
        "tensorflow.python.eager.context:Context.clear_kernel_cache",
        "tensorflow.python.framework.func_graph:FuncGraph",
        "tensorflow.python.framework.random_seed:get_seed",
        *(f"tensorflow.python.ops.gen_random_ops:{name}" for name in _RANDOM),
        "tensorflow.python.saved_model.save:save",
    ),
)
STEP_TRACE = Feature(
    name="the trace of steps",
    needs=(
        _CONTEXT,
        _EAGER_VALUES,
        _TRACING,
        "tensorflow.core.protobuf.device_properties_pb2:DeviceProperties",
        "tensorflow.core.protobuf.device_properties_pb2:NamedDevice",
        "tensorflow.python.eager.context:Context.config",
        "tensorflow.python.eager.record:could_possibly_record",
        "tensorflow.python.framework.op_def_registry:get",
        "tensorflow.python.framework.ops:Operation._add_control_input",
        "tensorflow.python.framework.ops:Operation._is_stateful",
        "tensorflow.python.grappler.cluster:Cluster",
        "tensorflow.python.grappler.tf_optimizer:OptimizeGraph",
        "tensorflow.python.ops.control_flow_util:GraphOrParentsInXlaContext",
    ),
)
ENTROPY_MONITOR = Feature(
    name="the entropy monitor",
    needs=(
        "random:_urandom",
        "tensorflow.python.autograph.impl.api:_TRANSPILER._cache._cache",
        "tensorflow.python.autograph.pyct.origin_info:LineLocation",
    ),
)
EPOCH_SHUFFLE = Feature(
    name="shuffling per epoch",
    needs=(
        "keras.src.trainers.data_adapters.array_data_adapter:ArrayDataAdapter.get_tf_dataset",
        "keras.src.trainers.data_adapters.array_data_adapter:ArrayDataAdapter#_shuffle",
    ),
)
NONDETERMINISTIC_OPS = Feature(
    name="the report of nondeterministic operations",
    needs=("keras.src.backend.common.name_scope:current_path", _NODES),
)
EXPORT_ORDER = Feature(
    name="repeatable files of TensorFlow",
    needs=(
        "tensorflow.python.checkpoint.checkpoint_management:generate_checkpoint_state_proto",
        "tensorflow.python.saved_model.save:_build_meta_graph",
        "tensorflow.python.util.object_identity:ObjectIdentitySet",
        "tensorflow.python.util.object_identity:ObjectIdentitySet#_storage",
    ),
)
MULTI_WORKER = Feature(
    name="training by several workers",
    needs=(
        "keras:Model#_distribute_strategy",
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer._maybe_symbolic_build",
        "keras.src.backend.tensorflow.trainer:_collective_all_reduce_multi_worker",
        "keras.src.backend.tensorflow.trainer:reduce_per_replica",
        "tensorflow.python.data.ops.dataset_ops:DatasetV2._apply_debug_options",
        "tensorflow.python.distribute.collective_all_reduce_strategy:CollectiveAllReduceExtended._in_multi_worker_mode",
        "tensorflow.python.distribute.input_lib:DistributedDataset#_original_dataset",
        "tensorflow.python.distribute.input_lib:DistributedDataset.__iter__",
        "tensorflow.python.distribute.input_lib:DistributedDatasetsFromFunction.__iter__",
    ),
)

FEATURES = (
    SETTINGS,
    OBSERVER,
    BINCOUNT_GUARD,
    OP_AUDIT,
    EXACT_OPS,
    ORDERED_SUMS,
    EXACT_RESUME,
    STEP_TRACE,
    ENTROPY_MONITOR,
    EPOCH_SHUFFLE,
    NONDETERMINISTIC_OPS,
    EXPORT_ORDER,
    MULTI_WORKER,
)
NAMES = tuple(sorted({name for feature in FEATURES for name in feature.needs}))
