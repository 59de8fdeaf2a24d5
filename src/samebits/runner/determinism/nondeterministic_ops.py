"""Operations that TensorFlow has no deterministic form of: found in a trial's graphs, with the layer they are in.

On a GPU op determinism makes most of them an error, `Timestamp` everywhere. Which they are was read in the kernels of
TensorFlow 2.x (`OpDeterminismRequired`). So that they can be placed on the CPU where there is no other way, the trial
measures there what each costs.
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

_PROBES = 7  # times that an operation is carried out to be timed, the first left out
_BATCH = 32  # for sizes that a graph leaves open
_GRADIENT = "gradient_tape/"


@dataclass(frozen=True, kw_only=True, slots=True)
class NondeterministicOp:
    """`gpu_only`: on the CPU it repeats. `way` is the known way round; None where there is only the CPU."""

    way: str | None
    gpu_only: bool = True


_CONTRAST = "compute (x - mean) * factor + mean, as keras.layers.RandomContrast does"
_FROZEN = "let the layer train, or apply its moving statistics as a scale and a shift"
_NEAREST = "repeat rows and columns (tf.repeat), as keras.layers.UpSampling2D does"
_COUNTING = "use tf.math.unsorted_segment_sum"
OPERATIONS: dict[str, NondeterministicOp] = {
    "AdjustContrastv2": NondeterministicOp(way=_CONTRAST),
    "Bincount": NondeterministicOp(way=_COUNTING),
    "CropAndResizeGradBoxes": NondeterministicOp(way=None),
    "CropAndResizeGradImage": NondeterministicOp(way=None),
    "DenseBincount": NondeterministicOp(way=_COUNTING),
    "DepthwiseConv2dNativeBackpropFilter": NondeterministicOp(way="use a Conv2D with groups"),
    "Dilation2DBackpropFilter": NondeterministicOp(way=None),
    "Dilation2DBackpropInput": NondeterministicOp(way=None),
    "FakeQuantWithMinMaxVarsGradient": NondeterministicOp(way=None),
    "FakeQuantWithMinMaxVarsPerChannelGradient": NondeterministicOp(way=None),
    "FusedBatchNormGrad": NondeterministicOp(way=_FROZEN),
    "FusedBatchNormGradV2": NondeterministicOp(way=_FROZEN),
    "FusedBatchNormGradV3": NondeterministicOp(way=_FROZEN),
    "MaxPoolGradWithArgmax": NondeterministicOp(way="use tf.nn.max_pool2d, which keeps no places"),
    "ResizeNearestNeighborGrad": NondeterministicOp(way=_NEAREST),
    "SparseTensorDenseMatMul": NondeterministicOp(way="make the matrix dense (tf.sparse.to_dense)"),
    "Timestamp": NondeterministicOp(way="leave the time out of the graph", gpu_only=False),
}


class NondeterministicOpWatcher:
    """Collects the operations of that table as graphs are made."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._layers: dict[str, str] = {}

    def install(self, patches: Patches) -> None:
        """Wrap the making of a graph's node."""
        patches.wrap(node_location(), self._wrap)

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def create_op(graph: Any, kind: str, *arguments: Any, **options: Any) -> Any:
            operation = original(graph, kind, *arguments, **options)
            scope = operation.name.rpartition("/")[0]
            if scope not in self._layers:
                self._layers[scope] = current_scope()
            if kind in OPERATIONS and _as_recorded(operation):
                self._found.setdefault(operation.name, operation)
            return operation

        return create_op

    def found(self) -> tuple[NondeterministicOpUse, ...]:
        """Each with its layer, the way round, whether a GPU alone has it, and the seconds that it takes on this CPU."""
        places = {(operation.type, self._layer(name)): operation for name, operation in self._found.items()}
        placed = {kind for kind, layer in places if layer}
        return tuple(
            NondeterministicOpUse(
                operation=kind,
                layer=layer,
                way=OPERATIONS[kind].way,
                gpu_only=OPERATIONS[kind].gpu_only,
                seconds=_seconds(operation),
            )
            for (kind, layer), operation in sorted(places.items(), key=lambda item: item[0])
            if layer or kind not in placed  # Keras tries layers out by themselves, too
        )

    def _layer(self, name: str) -> str:
        """The path of the layer that a node of a graph belongs to, a gradient to that of its operation; else empty."""
        scope = name.removeprefix(_GRADIENT)
        while scope:
            scope = scope.rpartition("/")[0]
            if self._layers.get(scope):
                return self._layers[scope]
        return ""


def _as_recorded(operation: Any) -> bool:
    """Of a normalisation's gradient only that of a frozen one."""
    return not operation.type.startswith("FusedBatchNormGrad") or not operation.get_attr("is_training")


def _seconds(operation: Any) -> float | None:
    """The median of a few executions of one operation by itself on the CPU; None where it cannot be had that way."""
    import tensorflow as tf

    try:
        with tf.device("CPU:0"):
            given = [_like(tensor) for tensor in operation.inputs]
            names = [item.name for item in operation.op_def.input_arg]
            attributes = {
                item.name: operation.get_attr(item.name)
                for item in operation.op_def.attr
                if item.name not in {argument.type_attr for argument in operation.op_def.input_arg}
            }
            carry_out = getattr(tf.raw_ops, operation.type)
            named = dict(zip(names, given, strict=True)) | attributes
            spent = [_once(lambda: carry_out(**named)) for _ in range(_PROBES)]
    except Exception:  # noqa: BLE001  sizes that only the graph knows: then it is not measured
        return None
    return statistics.median(spent[1:])


def _like(tensor: Any) -> Any:
    """A value as large as a graph's: the one it always has, or zeros."""
    import tensorflow as tf

    known = tf.get_static_value(tensor)
    if known is not None:
        return tf.constant(known, tensor.dtype)
    return tf.zeros([_BATCH if size is None else size for size in tensor.shape.as_list()], tensor.dtype)


def _once(carry_out: Callable[[], Any]) -> float:
    started = time.perf_counter()
    carry_out()
    return time.perf_counter() - started
