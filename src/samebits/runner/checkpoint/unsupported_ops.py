"""Operations whose state no checkpoint can hold, found in a graph when it is made, before its first step is.

`tf.random.normal` and its like count their calls inside TensorFlow, out of reach; a Python function in a graph may hold
anything.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.patches import Patches
from samebits.runner.trace.optimizer_tap import TAP

_RANDOM = frozenset(
    {
        "AllCandidateSampler",
        "FixedUnigramCandidateSampler",
        "FractionalAvgPool",
        "FractionalMaxPool",
        "LearnedUnigramCandidateSampler",
        "LogUniformCandidateSampler",
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "SampleDistortedBoundingBox",
        "SampleDistortedBoundingBoxV2",
        "ThreadUnsafeUnigramCandidateSampler",
        "TruncatedNormal",
        "UniformCandidateSampler",
    }
)


_PYTHON = frozenset({"EagerPyFunc", "PyFunc"})


class UnsupportedOpWatcher:
    """Looks at each graph when it is made; `before` is what was found in graphs that were made before a stage."""

    def __init__(self, keeper: CheckpointManager) -> None:
        self._keeper = keeper
        self.before: list[str] = []

    def install(self, patches: Patches) -> None:
        """Wrap what makes graphs."""
        patches.wrap(tensorflow_private.tracing_location(), self._wrap)

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def func_graph_from_py_func(name: str, *args: Any, **kwargs: Any) -> Any:
            graph = original(name, *args, **kwargs)
            if not _of_data(name):
                for reason in _reasons(graph):
                    if self._keeper.stage is None:
                        self.before.append(reason)
                    else:
                        self._keeper.refuse(reason)
            return graph

        return func_graph_from_py_func


def _reasons(graph: Any) -> Iterator[str]:
    operations = graph.get_operations()
    drawing = sorted({operation.type for operation in operations} & _RANDOM)
    if drawing:
        yield (
            f"the training draws random numbers by {', '.join(drawing)}, which counts its calls out of reach; use"
            " keras.random with a SeedGenerator"
        )
    if any(operation.type in _PYTHON and TAP not in operation.name for operation in operations):
        yield (
            "the training calls Python from a graph (py_function or numpy_function), which may hold state of its own;"
            " use operations of TensorFlow"
        )


def _of_data(name: str) -> bool:
    """Whether a graph is a function of a tf.data pipeline, which begins anew with every iterator."""
    return name.startswith("Dataset_") or "_dataset_" in name.lower()
