"""Which TensorFlow operations a run reaches, and how far what is known of them carries its promise."""

import functools
import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.container.determinism import Guard

_PROVEN = Path(__file__).with_name("proven.json")

MOVING = frozenset(
    {
        *("AssignVariableOp", "BroadcastTo", "Concat", "ConcatV2", "Const", "DeepCopy", "DynamicPartition"),
        *("DynamicStitch", "Empty", "EnsureShape", "ExpandDims", "Fill", "Gather", "GatherNd", "GatherV2", "Identity"),
        *("IdentityN", "If", "IteratorGetNext", "MakeIterator", "MirrorPad", "NoOp", "OneHot", "OnesLike"),
        *("OptionalGetValue", "Pack", "Pad", "PadV2", "ParallelDynamicStitch", "PartitionedCall", "Placeholder"),
        *("PlaceholderWithDefault", "PreventGradient", "ReadVariableOp", "Reshape", "ResourceGather", "Reverse"),
        *("ReverseSequence", "ReverseV2", "Roll", "Select", "SelectV2", "Slice", "Snapshot", "Split", "SplitV"),
        *("Squeeze", "StatefulPartitionedCall", "StatelessIf", "StatelessWhile", "StopGradient", "StridedSlice"),
        *("StridedSliceGrad", "TensorListGather", "TensorListGetItem", "TensorListPopBack", "TensorListStack"),
        *("TensorScatterUpdate", "Tile", "Transpose", "Unpack", "Where", "While", "ZerosLike"),
    }
)
"""Operations that only move, pick or repeat values, or call others."""

ROUNDING_ONCE = frozenset(
    {
        *("Abs", "Add", "AddV2", "AssignAddVariableOp", "AssignSubVariableOp", "Cast", "Ceil", "ClipByValue", "Div"),
        *("Floor", "Max", "Maximum", "Min", "Minimum", "Mul", "Neg", "RealDiv", "Relu", "Relu6", "ReluGrad", "Rint"),
        *("Round", "Sign", "Sqrt", "Square", "Sub"),
    }
)
"""Operations whose every value is one step that IEEE 754 defines, or a choice between two values."""

_REFUSED = ("bfloat16", "float16")
"""Types for which oneDNN, held to AVX2, has no kernels, or others on other CPUs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proven:
    """What was found to be the same on every CPU tried: operations with their types, and the fingerprint's digests."""

    versions: dict[str, str]
    operations: frozenset[str]
    fingerprint: dict[str, str]


def read_proven(path: Path = _PROVEN) -> Proven:
    """The committed table, which `tools/prove.py` makes."""
    values = json.loads(path.read_bytes())
    return Proven(
        versions=values["versions"], operations=frozenset(values["operations"]), fingerprint=values["fingerprint"]
    )


class Reached:
    """Collects the operations that give floating-point numbers, or nothing: as `MatMul float32`, `AssignAdd`."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.operations: set[str] = set()
        self._seen: set[tuple[Any, ...]] = set()

    def install(self) -> None:
        """Wrap the three doors of TensorFlow's Python side: both ways to execute, and the making of a graph's node."""
        from tensorflow.python import pywrap_tfe
        from tensorflow.python.framework import ops

        fast, slow, in_graph = (
            pywrap_tfe.TFE_Py_FastPathExecute,
            pywrap_tfe.TFE_Py_Execute,
            ops.Graph._create_op_internal,  # noqa: SLF001  there is no public name
        )

        def fast_path(context: Any, name: str, *arguments: Any) -> Any:
            answer = fast(context, name, *arguments)
            self._add(name, answer)
            return answer

        def execute(context: Any, device: Any, name: str, *arguments: Any) -> Any:
            answer = slow(context, device, name, *arguments)
            self._add(name, answer)
            return answer

        def create_op(graph: Any, name: str, *arguments: Any, **options: Any) -> Any:
            operation = in_graph(graph, name, *arguments, **options)
            self._add(name, operation.outputs)
            return operation

        pywrap_tfe.TFE_Py_FastPathExecute = fast_path
        pywrap_tfe.TFE_Py_Execute = execute
        ops.Graph._create_op_internal = create_op  # noqa: SLF001

    def _add(self, name: str | bytes, outputs: Any) -> None:
        """The first output's type stands for all; raises SettingError for a type that is refused."""
        if isinstance(name, bytes):  # as some of TensorFlow's own callers have it
            name = name.decode()
        if isinstance(outputs, (list, tuple)):
            outputs = outputs[0] if outputs else None
        kind = getattr(outputs, "dtype", None)
        if (name, kind) in self._seen:
            return
        self._seen.add((name, kind))
        if kind is None:
            self.operations.add(name)
            return
        if kind.is_floating or kind.is_complex:
            self.operations.add(f"{name} {kind.name}")
        if kind.name in _REFUSED and name not in MOVING | {"Cast"} and not name.startswith("__"):
            self._guard.stop(
                f"the script computes in {kind.name} ({name}), which the portable profile cannot promise the bits of;"
                " use float32 or float64, or the native profile"
            )


def computing(reached: Iterable[str]) -> list[str]:
    """Those whose bits could hang on the CPU; a graph's own name, as operations that call graphs have it, is none."""
    exact = MOVING | ROUNDING_ONCE
    return sorted(name for name in reached if name.partition(" ")[0] not in exact and not name.startswith("__"))


def refuse_compiling(guard: Guard) -> None:
    """Make `jit_compile=True` an error: what XLA compiles follows the CPU, and nothing pins it."""
    from tensorflow.python.eager.polymorphic_function import polymorphic_function

    original = polymorphic_function.Function.__call__

    @functools.wraps(original)
    def call(function: Any, *arguments: Any, **options: Any) -> Any:
        if function._jit_compile:  # noqa: SLF001  there is no public name
            guard.stop(
                "the script compiles with XLA (jit_compile=True, or a convolution in groups), whose code follows the"
                " CPU: the portable profile cannot promise its bits; remove it, or use the native profile"
            )
        return original(function, *arguments, **options)

    polymorphic_function.Function.__call__ = call


def refuse_weighted_bincount(guard: Guard, threads: int) -> None:
    """Make `bincount` with weights an error with several threads: op determinism does not reach its order of adding.

    Found with TensorFlow 2.21: fifteen runs on eight threads gave fifteen results.
    """
    from tensorflow.python.ops import gen_math_ops

    if threads == 1:
        return
    for name in ("bincount", "dense_bincount", "ragged_bincount", "sparse_bincount"):
        setattr(gen_math_ops, name, _unweighted(getattr(gen_math_ops, name), guard, threads))


def _unweighted(original: Callable[..., Any], guard: Guard, threads: int) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def bincount(*arguments: Any, **options: Any) -> Any:
        weights = signature.bind(*arguments, **options).arguments["weights"]
        if weights.shape.num_elements() != 0:
            guard.stop(
                f"bincount with weights adds in another order each time with {threads} threads; use --threads 1, or"
                " tf.math.unsorted_segment_sum"
            )
        return original(*arguments, **options)

    return bincount
