"""Operations without a deterministic implementation in TensorFlow, found in a trial's graphs with their layers.

With op determinism on, most of them raise an error on a GPU, and `Timestamp` raises everywhere. The table comes from
the kernels of TensorFlow 2.x that check `OpDeterminismRequired`. Where an operation has no workaround, it can be placed
on the CPU. The trial measures what that costs.
"""

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samebits.core.environment import NondeterministicOpUse
from samebits.runner.compat.keras_private import current_scope
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.tensorflow_private import node_location

_TIMED_RUNS = 7  # executions to time one operation; the first is left out
_BATCH = 32  # stands for sizes that a graph leaves open
_GRADIENT = "gradient_tape/"


@dataclass(frozen=True, kw_only=True, slots=True)
class NondeterministicOp:
    """`gpu_only`: it is deterministic on the CPU. `workaround` is None where the CPU is the only way."""

    workaround: str | None
    gpu_only: bool = True


_CONTRAST = "compute (x - mean) * factor + mean, as keras.layers.RandomContrast does"
_FROZEN = "let the layer train, or apply its moving statistics as a scale and a shift"
_NEAREST = "repeat rows and columns (tf.repeat), as keras.layers.UpSampling2D does"
_COUNTING = "use tf.math.unsorted_segment_sum"
OPERATIONS: dict[str, NondeterministicOp] = {
    "AdjustContrastv2": NondeterministicOp(workaround=_CONTRAST),
    "Bincount": NondeterministicOp(workaround=_COUNTING),
    "CropAndResizeGradBoxes": NondeterministicOp(workaround=None),
    "CropAndResizeGradImage": NondeterministicOp(workaround=None),
    "DenseBincount": NondeterministicOp(workaround=_COUNTING),
    "DepthwiseConv2dNativeBackpropFilter": NondeterministicOp(workaround="use a Conv2D with groups"),
    "Dilation2DBackpropFilter": NondeterministicOp(workaround=None),
    "Dilation2DBackpropInput": NondeterministicOp(workaround=None),
    "FakeQuantWithMinMaxVarsGradient": NondeterministicOp(workaround=None),
    "FakeQuantWithMinMaxVarsPerChannelGradient": NondeterministicOp(workaround=None),
    "FusedBatchNormGrad": NondeterministicOp(workaround=_FROZEN),
    "FusedBatchNormGradV2": NondeterministicOp(workaround=_FROZEN),
    "FusedBatchNormGradV3": NondeterministicOp(workaround=_FROZEN),
    "MaxPoolGradWithArgmax": NondeterministicOp(workaround="use tf.nn.max_pool2d, which returns no indices"),
    "ResizeNearestNeighborGrad": NondeterministicOp(workaround=_NEAREST),
    "SparseTensorDenseMatMul": NondeterministicOp(workaround="make the matrix dense (tf.sparse.to_dense)"),
    "Timestamp": NondeterministicOp(workaround="leave the time out of the graph", gpu_only=False),
}


class NondeterministicOpWatcher:
    """Collects the operations of the table while graphs are traced."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._layers: dict[str, str] = {}

    def install(self, patches: Patches) -> None:
        """Wrap the function that creates the nodes of graphs."""
        patches.wrap(node_location(), self._wrap)

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def create_op(graph: Any, kind: str, *arguments: Any, **options: Any) -> Any:
            operation = original(graph, kind, *arguments, **options)
            # The layer is known only while it is being called, so it is stored by name scope for its gradients.
            scope = operation.name.rpartition("/")[0]
            if scope not in self._layers:
                self._layers[scope] = current_scope()
            if kind in OPERATIONS and _is_nondeterministic(operation):
                self._found.setdefault(operation.name, operation)
            return operation

        return create_op

    def found(self) -> tuple[NondeterministicOpUse, ...]:
        """One entry for each operation and layer, with the seconds that the operation takes on this CPU."""
        by_layer = {(operation.type, self._layer(name)): operation for name, operation in self._found.items()}
        in_layers = {kind for kind, layer in by_layer if layer}
        return tuple(
            NondeterministicOpUse(
                operation=kind,
                layer=layer,
                way=OPERATIONS[kind].workaround,
                gpu_only=OPERATIONS[kind].gpu_only,
                seconds=_seconds(operation),
            )
            for (kind, layer), operation in sorted(by_layer.items(), key=lambda item: item[0])
            # Keras also traces layers by themselves, where the layer is unknown.
            if layer or kind not in in_layers
        )

    def _layer(self, name: str) -> str:
        """The path of the layer that a node, or the gradient of a node, belongs to; empty outside of layers."""
        # A gradient has the scope of its operation, under a prefix.
        scope = name.removeprefix(_GRADIENT)
        while scope:
            scope = scope.rpartition("/")[0]
            if self._layers.get(scope):
                return self._layers[scope]
        return ""


def _is_nondeterministic(operation: Any) -> bool:
    """Batch normalisation's gradient is nondeterministic only where the layer is frozen."""
    return not operation.type.startswith("FusedBatchNormGrad") or not operation.get_attr("is_training")


def _seconds(operation: Any) -> float | None:
    """The median time of one operation on the CPU, executed by itself; None where it cannot be executed alone."""
    import tensorflow as tf

    # Timing must not fail a trial, whatever an operation needs.
    try:
        with tf.device("CPU:0"):
            inputs = [_stand_in(tensor) for tensor in operation.inputs]
            names = [item.name for item in operation.op_def.input_arg]
            attributes = {
                item.name: operation.get_attr(item.name)
                for item in operation.op_def.attr
                if item.name not in {argument.type_attr for argument in operation.op_def.input_arg}
            }
            execute = getattr(tf.raw_ops, operation.type)
            arguments = dict(zip(names, inputs, strict=True)) | attributes
            seconds = [_time_once(lambda: execute(**arguments)) for _ in range(_TIMED_RUNS)]
    except Exception:  # noqa: BLE001  some sizes are known in the graph only; these operations have no time
        return None
    return statistics.median(seconds[1:])


def _stand_in(tensor: Any) -> Any:
    """A value of a graph tensor's shape: its constant value, or zeros."""
    import tensorflow as tf

    known = tf.get_static_value(tensor)
    if known is not None:
        return tf.constant(known, tensor.dtype)
    return tf.zeros([_BATCH if size is None else size for size in tensor.shape.as_list()], tensor.dtype)


def _time_once(execute: Callable[[], Any]) -> float:
    started = time.perf_counter()
    execute()
    return time.perf_counter() - started
