"""Which TensorFlow operations a run reaches, and how far what is known of them carries its promise."""

import functools
import inspect
import json
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.settings import SettingsGuard

_PROVEN = Path(__file__).with_name("proven.json")

MOVING = frozenset(
    {
        *("AsString", "Assert", "AssignVariableOp", "Bitcast", "BroadcastTo", "Case", "Concat", "ConcatV2"),
        *("Const", "DeepCopy", "DynamicPartition", "DynamicStitch", "Empty", "EnsureShape", "ExpandDims", "Fill"),
        *("Gather", "GatherNd", "GatherV2", "Identity", "IdentityN", "If", "IteratorGetNext", "MakeIterator"),
        *("MirrorPad", "NoOp", "OneHot", "OnesLike", "OptionalFromValue", "OptionalGetValue", "Pack", "Pad"),
        *("PadV2", "ParallelDynamicStitch", "PartitionedCall", "Placeholder", "PlaceholderWithDefault"),
        *("PreventGradient", "ReadVariableOp", "Reshape", "ResourceGather", "Reverse", "ReverseSequence"),
        *("ReverseV2", "Roll", "SaveV2", "Select", "SelectV2", "Shape", "ShapeN", "Size", "Slice", "Snapshot"),
        *("Split", "SplitV", "Squeeze", "StatefulPartitionedCall", "StatelessCase", "StatelessIf"),
        *("StatelessWhile", "StopGradient", "StridedSlice", "StridedSliceGrad", "StringFormat", "TensorDataset"),
        *("TensorListConcatV2", "TensorListFromTensor", "TensorListGather", "TensorListGetItem"),
        *("TensorListPopBack", "TensorListPushBack", "TensorListSetItem", "TensorListStack"),
        *("TensorScatterUpdate", "TensorSliceDataset", "Tile", "Transpose", "Unpack", "Where", "While"),
        "ZerosLike",
    }
)
"""Operations that only move, pick, repeat or print values, or call others."""

ROUNDING_ONCE = frozenset(
    {
        *("Abs", "Add", "AddV2", "ArgMax", "ArgMin", "AssignAddVariableOp", "AssignSubVariableOp", "Cast", "Ceil"),
        *("ClipByValue", "Div", "Equal", "Floor", "Greater", "GreaterEqual", "IsFinite", "IsInf", "IsNan", "Less"),
        *("LessEqual", "Max", "Maximum", "Min", "Minimum", "Mul", "Neg", "NotEqual", "RealDiv", "Relu", "Relu6"),
        *("ReluGrad", "Rint", "Round", "Sign", "Sqrt", "Square", "Sub", "TopKV2"),
    }
)
"""Operations whose every real value is one step that IEEE 754 defines, or a choice between values."""

_REFUSED = ("bfloat16", "float16")
"""Types for which oneDNN, held to AVX2, has no kernels, or others on other CPUs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvenTable:
    """What was found to be the same on every CPU tried: operations with their types, and the fingerprint's digests.

    NumPy leaves some functions to the C library, whose releases compute otherwise: `libc` has their digests for each.
    """

    versions: dict[str, str]
    operations: frozenset[str]
    fingerprint: dict[str, str]
    libc: dict[str, dict[str, str]]

    def expected(self, libc: str) -> dict[str, str] | None:
        """All digests under a C library, such as `glibc 2.41`; None where it is not known."""
        return self.fingerprint | self.libc[libc] if libc in self.libc else None


def read_proven(path: Path = _PROVEN) -> ProvenTable:
    """The committed table, which `tools/prove.py` makes."""
    values = json.loads(path.read_bytes())
    return ProvenTable(
        versions=values["versions"],
        operations=frozenset(values["operations"]),
        fingerprint=values["fingerprint"],
        libc=values["libc"],
    )


def c_library() -> str:
    """Name and release."""
    return " ".join(platform.libc_ver())


_OURS: ContextVar[bool] = ContextVar("ours", default=False)


@contextmanager
def unwatched() -> Iterator[None]:
    """What is made here is samebits' own: it computes nothing, and is no operation that the script reaches."""
    token = _OURS.set(True)
    try:
        yield
    finally:
        _OURS.reset(token)


class OpRecorder:
    """Collects the operations that take or give floating-point numbers, with their type: `MatMul float32`."""

    def __init__(self, guard: SettingsGuard) -> None:
        self._guard = guard
        self.operations: set[str] = set()

    def install(self, patches: Patches) -> None:
        """Wrap the doors of TensorFlow's Python side: three ways to execute, and the making of a graph's node."""
        fast, slow = tensorflow_private.execute_locations()
        patches.wrap(fast, self._wrap_fast_path)
        for location in slow:
            patches.wrap(location, self._wrap_execute)
        patches.wrap(tensorflow_private.node_location(), self._wrap_create_op)

    def _wrap_fast_path(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def fast_path(context: Any, name: str, *arguments: Any) -> Any:
            answer = original(context, name, *arguments)
            self._add(name, answer, arguments)
            return answer

        return fast_path

    def _wrap_execute(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def execute(context: Any, device: Any, name: str, inputs: Any, *arguments: Any) -> Any:
            answer = original(context, device, name, inputs, *arguments)
            self._add(name, answer, inputs)
            return answer

        return execute

    def _wrap_create_op(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def create_op(graph: Any, kind: str, *arguments: Any, **options: Any) -> Any:  # they have a `name` of their own
            operation = original(graph, kind, *arguments, **options)
            self._add(kind, operation.outputs, operation.inputs)
            return operation

        return create_op

    def _add(self, name: str | bytes, outputs: Any, inputs: Any) -> None:
        """Raises SettingError for a type that is refused."""
        if _OURS.get():
            return
        if isinstance(name, bytes):  # as some of TensorFlow's own callers have it
            name = name.decode()
        kind = _floating(outputs) or _floating(inputs)
        if kind is None:
            return
        self.operations.add(f"{name} {kind}")
        if kind in _REFUSED and name not in MOVING | {"Cast"} and not name.startswith("__"):
            self._guard.stop(
                f"the script computes in {kind} ({name}), which the portable profile cannot promise the bits of; use"
                " float32 or float64, or the native profile"
            )


def _floating(tensors: Any) -> str | None:
    """The type of the first tensor that holds floating-point or complex numbers, in lists of them as well."""
    if isinstance(tensors, (list, tuple)):
        return next((kind for kind in map(_floating, tensors) if kind is not None), None)
    kind = getattr(tensors, "dtype", None)
    if kind is None or not (getattr(kind, "is_floating", False) or getattr(kind, "is_complex", False)):
        return None
    return str(kind.name)


def computing(reached: Iterable[str]) -> list[str]:
    """Those whose bits could hang on the CPU; a graph's own name, as operations that call graphs have it, is none."""
    pairs = (name.split(" ") for name in reached if not name.startswith("__"))
    return sorted(
        f"{name} {kind}"
        for name, kind in pairs
        if name not in MOVING and (name not in ROUNDING_ONCE or kind.startswith("complex"))
    )


def refuse_compiling(patches: Patches, guard: SettingsGuard) -> None:
    """Make `jit_compile=True` an error: what XLA compiles follows the CPU, and nothing pins it.

    Refused where a function is first traced: Keras makes one for every convolution, and traces it for groups alone.
    """
    message = (
        "the script compiles with XLA (jit_compile=True, jit_scope, or a convolution in groups), whose code follows the"
        " CPU: the portable profile cannot promise its bits; remove it, or use the native profile"
    )

    def checked(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def initialize(function: Any, *arguments: Any, **options: Any) -> Any:
            if tensorflow_private.is_jit_compiled(function):
                guard.stop(message)
            return original(function, *arguments, **options)

        return initialize

    def jit_scope(*_: Any, **__: Any) -> NoReturn:
        guard.stop(message)

    patches.wrap(tensorflow_private.first_trace_location(), checked)
    for module, name in tensorflow_private.jit_scope_locations():
        patches.replace(module, name, jit_scope)


def refuse_weighted_bincount(patches: Patches, guard: SettingsGuard, threads: int) -> None:
    """Make `bincount` with weights an error with several threads: op determinism does not reach its order of adding.

    Found with TensorFlow 2.21: fifteen runs on eight threads gave fifteen results. Weights whose number is not known
    when a graph is made are taken for some.
    """
    if threads == 1:
        return
    for location in tensorflow_private.bincount_locations():
        patches.wrap(location, functools.partial(_unweighted, guard=guard, threads=threads))


def _unweighted(original: Callable[..., Any], guard: SettingsGuard, threads: int) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def bincount(*arguments: Any, **options: Any) -> Any:
        weights = signature.bind(*arguments, **options).arguments["weights"]
        if weights.dtype.is_floating and weights.shape.num_elements() != 0:
            guard.stop(
                f"bincount with weights adds in another order each time with {threads} threads; use --threads 1, or"
                " tf.math.unsorted_segment_sum"
            )
        return original(*arguments, **options)

    return bincount
