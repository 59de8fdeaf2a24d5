"""Detects operations whose state no checkpoint can hold. A graph is inspected when it is traced, before its first step.

Operations that draw random numbers count their calls inside TensorFlow, which gives no access to the counter.
`random_streams` replaces the usual ones, so that they do not appear here. A Python function in a graph may have any
state.
"""

from collections.abc import Iterator
from typing import Any

from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.process_state.random_streams import RandomStreams
from samebits.runner.compat.graph_tracing import Trace, TraceEnd
from samebits.runner.trace.optimizer_tap import TAP

# Operations that draw from a counter inside TensorFlow.
_STATEFUL_RANDOM_OPS = frozenset(
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

_PYTHON_OPS = frozenset({"EagerPyFunc", "PyFunc"})


class UnsupportedOpWatcher:
    """Inspects every graph that is traced. `outside_phases` has the reasons from graphs outside of one.

    `has_traced` says whether there was any.
    """

    def __init__(self, manager: CheckpointManager, streams: RandomStreams) -> None:
        self._manager = manager
        self._streams = streams
        streams.refuse = self._refuse_seeded
        self.outside_phases: list[str] = []
        self.has_traced = False

    def before_trace(self, trace: Trace) -> TraceEnd:
        """Inspect the graph after it was traced."""
        return lambda graph: self._inspect(trace.name, graph)

    def _refuse_seeded(self) -> None:
        if self._manager.phase is not None:
            self._manager.refuse(
                "the training draws from an eager random operation of TensorFlow with a seed of its own, which is"
                " counted inside; use tf.random.Generator, or keras.random with a SeedGenerator"
            )

    def _inspect(self, name: str, graph: Any) -> None:
        # `data_iterator` handles the state of pipelines.
        if self._streams.in_data_function and _is_data_function(name):
            return
        self.has_traced = True
        for reason in _reasons(graph):
            if self._manager.phase is None:
                self.outside_phases.append(reason)
            else:
                self._manager.refuse(reason)


def _reasons(graph: Any) -> Iterator[str]:
    operations = graph.get_operations()
    drawing = sorted({operation.type for operation in operations} & _STATEFUL_RANDOM_OPS)
    if drawing:
        yield (
            f"the training draws random numbers by {', '.join(drawing)}, whose state TensorFlow does not expose; use"
            " keras.random with a SeedGenerator"
        )
    if any(operation.type in _PYTHON_OPS and TAP not in operation.name for operation in operations):
        yield (
            "the training calls Python from a graph (py_function or numpy_function), which may have its own state;"
            " use TensorFlow operations"
        )


def _is_data_function(name: str) -> bool:
    """Whether a graph has the name of a function of a pipeline, whose state starts over with every iterator."""
    return name.startswith("Dataset_") or "_dataset_" in name.lower()
