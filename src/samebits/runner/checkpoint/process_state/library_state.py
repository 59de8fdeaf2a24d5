"""State that Keras and TensorFlow keep for a process: names given so far, counters of random numbers, the summary step.

It becomes roots of a checkpoint, as flat dicts. Restored dicts are handed back to the libraries.
"""

import decimal
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from samebits.runner.checkpoint.process_state import warning_filters
from samebits.runner.checkpoint.process_state.random_streams import RandomStreams
from samebits.runner.checkpoint.state.global_rngs import generators
from samebits.runner.compat import keras_private
from samebits.runner.compat.graph_tracing import Trace, TraceEnd

STREAMS = "random streams of TensorFlow"
NAMES = "names of Keras"
_SUMMARY = "step of tf.summary"
_WARNINGS = "filters of warnings"
_DECIMAL = "flags of decimal"
_TRACE = "trace of "
NOT_DRAWN = frozenset({NAMES, _SUMMARY, _WARNINGS, _DECIMAL})
"""Roots that no data draws from."""


class LibraryState:
    """Captures and restores the state that libraries keep for a process. `streams` are those of random numbers."""

    def __init__(self, streams: RandomStreams) -> None:
        self._streams = streams
        self.names = NameCounters()

    def begin_phase(self) -> None:
        """Note that a phase of the run begins."""
        self.names.begin_phase()

    def roots(self) -> dict[str, Any]:
        """The roots of a checkpoint that hold the state now, and the global generators; nothing that was never used."""
        found = {STREAMS: self._streams.values(), NAMES: self.names.values(), _SUMMARY: _summary()}
        found |= {_WARNINGS: warning_filters.capture(), _DECIMAL: _flags()}
        return generators() | {name: value for name, value in found.items() if value}

    def holders(self, wanted: frozenset[str]) -> dict[str, Any]:
        """Roots into which a checkpoint with the `wanted` ones can be restored, for `restore`."""
        empty: dict[str, dict[str, Any]] = {STREAMS: {}, NAMES: {}, _WARNINGS: {}, _DECIMAL: {}}
        return generators(wanted=wanted) | empty | {_SUMMARY: _summary()}

    def advance(self, streams: Mapping[str, str]) -> None:
        """Set some streams of TensorFlow, and leave the others."""
        self._streams.restore({**self._streams.values(), **streams})

    def restore(self, found: Mapping[str, Any], *, without: frozenset[str]) -> None:
        """Take over restored roots, `without` some of them."""
        import tensorflow as tf

        if STREAMS not in without:
            self._streams.restore(found[STREAMS])
        # A checkpoint of an earlier version of samebits has no names.
        if NAMES not in without and found[NAMES]:
            self.names.restore(found[NAMES])
        if _SUMMARY not in without:
            tf.summary.experimental.set_step(found[_SUMMARY].get("step"))
        if _WARNINGS not in without:
            warning_filters.restore(found[_WARNINGS])
        if _DECIMAL not in without:
            for kind in decimal.getcontext().flags:
                decimal.getcontext().flags[kind] = kind.__name__ in found[_DECIMAL]


def _summary() -> dict[str, Any]:
    import tensorflow as tf

    step = tf.summary.experimental.get_step()
    return {} if step is None else {"step": step}


def _flags() -> dict[str, bool]:
    """What calculations with decimals signalled; a script can read it."""
    return {kind.__name__: True for kind, on in decimal.getcontext().flags.items() if on}


class NameCounters:
    """The numbers by which Keras names objects without a name.

    A resumed run traces graphs again that the original run had traced before its checkpoint. Names that it gives
    meanwhile are given back.
    """

    def __init__(self) -> None:
        self._traced: Counter[str] = Counter()
        self._here: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()

    def before_trace(self, trace: Trace) -> TraceEnd | None:
        """Note the names that are given while a graph is traced, those of the graphs within it included."""
        if trace.outer:
            return None
        before = dict(keras_private.name_counters())
        return lambda _: self._note(trace.name, before)

    def begin_phase(self) -> None:
        """Forget the graphs of earlier phases."""
        for counter in (self._traced, self._here, self._repeated):
            counter.clear()

    def values(self) -> dict[str, int]:
        """The next number for each name, and how many graphs were traced that gave names, by function and names."""
        return dict(keras_private.name_counters()) | {f"{_TRACE}{name}": n for name, n in self._traced.items()}

    def restore(self, values: Mapping[str, int]) -> None:
        """Continue from what `values` returned."""
        traced = {name.removeprefix(_TRACE): n for name, n in values.items() if name.startswith(_TRACE)}
        self._repeated = Counter(traced) - self._here
        self._traced = Counter(traced)
        self._set({name: n for name, n in values.items() if not name.startswith(_TRACE)})

    def _set(self, values: Mapping[str, int]) -> None:
        counters = keras_private.name_counters()
        counters.clear()
        counters.update(values)

    def _note(self, name: str, before: Mapping[str, int]) -> None:
        """A function was traced, and names may have been given meanwhile; `before` are the counters before that."""
        now = dict(keras_private.name_counters())
        if now == before:
            return
        given = {key: number - before.get(key, 0) for key, number in now.items() if number != before.get(key)}
        trace = json.dumps([name, given], sort_keys=True)
        self._here[trace] += 1
        repeated = next((known for known in +self._repeated if _is_repeated(known, name, given)), None)
        if repeated is None:
            self._traced[trace] += 1
            return
        # What was built before the trace, such as an optimizer, is not built again: that trace may give fewer names.
        self._repeated[repeated] -= 1
        back = json.loads(repeated)[1]
        left = {key: number - min(back.get(key, 0), given.get(key, 0)) for key, number in now.items()}
        # The first of a name has no number, which Keras tells by the absence of the counter.
        self._set({key: number for key, number in left.items() if number or key in before})


def _is_repeated(known: str, name: str, given: Mapping[str, int]) -> bool:
    """Whether a trace of the original run, as text, was one of the same function, and gave some of the same names."""
    other, back = json.loads(known)
    return bool(other == name and back.keys() & given.keys())
