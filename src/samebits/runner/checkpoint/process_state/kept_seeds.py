"""Seeds that graphs were traced with: a graph keeps them when `tf.random.set_seed` is called afterwards.

A resumed run traces a graph again, after a callback has set another seed. It must get the seed of the first trace.
"""

from collections.abc import Iterable, Mapping

from samebits.runner.compat import tensorflow_random

KEPT = "seeds of graphs"
"""The name under which they stand among the streams in a checkpoint."""
SEED = "seed of TensorFlow"
"""The name of the global seed there."""
_OF_TWO_ZEROS = 2**31 - 1
"""The seed that TensorFlow gives an operation in the place of 0, where the global one is 0, too."""


class KeptSeeds:
    """The seeds of the graphs that were used last, where another seed was set since they were traced.

    A stream is named by function, operation, global seed, the operation's own seed and a number. Keras traces again
    after `compile`, and the graphs before that are forgotten.
    """

    def __init__(self) -> None:
        self._last: frozenset[str] = frozenset()
        self._forgotten: frozenset[str] = frozenset()
        self._expected: dict[str, int] = {}
        self._traced: dict[str, int] = {}
        self._times = 0

    def values(self, drawn: Iterable[str]) -> dict[str, str]:
        """What a checkpoint holds; `drawn` are the streams that were drawn from since they started over."""
        seed = tensorflow_random.tensorflow_seed()
        names = sorted(name for name in self._used(drawn) if _parts(name)[1] != str(seed))
        kept = {KEPT: "\n".join(names)} if names else {}
        return kept if seed is None else kept | {SEED: str(seed)}

    def restore(self, values: Mapping[str, str]) -> dict[str, str]:
        """Take over what `values` returned; returns the rest."""
        names = values.get(KEPT, "").split("\n") if KEPT in values else []
        self._last, self._forgotten = frozenset(names), frozenset()
        self._traced.clear()
        self._expected.clear()
        for name in names:
            key, seed = _parts(name)
            # A function that was traced with several seeds is traced with the usual one, which the proof refuses.
            self._expected[key] = int(seed) if self._expected.get(key, int(seed)) == int(seed) else -1
        self._expected = {key: seed for key, seed in self._expected.items() if seed >= 0}
        # A callback may have set it in a fit that this process does not train.
        if SEED in values:
            tensorflow_random.restore_seed(int(values[SEED]))
        return {name: text for name, text in values.items() if name not in (KEPT, SEED)}

    def seeds_of(self, function: str, seed: int, of_operation: int) -> tuple[int, int]:
        """The two seeds for an operation of a function that is traced: those of its first trace, or these."""
        own = _own_seed(seed, of_operation)
        key = f"{function} {own}"
        if key not in self._expected or tensorflow_random.traced_function() is None:
            return seed, of_operation
        # Keras traces a step twice. After another call of `set_seed`, a trace has the seed of its own time.
        known = self._expected[key] if self._traced.setdefault(key, self._times) == self._times else seed
        return known, _OF_TWO_ZEROS if (known, own) == (0, 0) else own

    def note_drawn(self, drawn: Iterable[str]) -> None:
        """Note what was drawn from until all streams start over."""
        self._last = self._used(drawn)
        self._times += 1

    def note_traced(self, name: str) -> None:
        """Note that a graph with this stream is traced."""
        self._forgotten -= {name}

    def forget(self, drawn: Iterable[str]) -> None:
        """Note that a model is compiled, so that its graphs are traced again; `drawn` are all streams in use."""
        self._forgotten |= {*drawn, *self._last}
        self._last = frozenset()
        self._expected.clear()

    def _used(self, drawn: Iterable[str]) -> frozenset[str]:
        """The streams of the graphs that were used last."""
        streams = (name for name in drawn if name not in (KEPT, SEED) and not name.startswith(" "))
        now = frozenset(streams) - self._forgotten
        return now or self._last


def _own_seed(seed: int, of_operation: int) -> int:
    """The seed of an operation itself: TensorFlow gives another one where both are 0."""
    return 0 if (seed, of_operation) == (0, _OF_TWO_ZEROS) else of_operation


def _parts(name: str) -> tuple[str, str]:
    """What the trace of a stream's operation asks by, and the global seed of the stream."""
    function, kind, seed, of_operation, _ = name.rsplit(" ", 4)
    return f"{function} {kind} {_own_seed(int(seed), int(of_operation))}", seed
