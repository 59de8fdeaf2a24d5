"""Counts how often each reshuffling part of a tf.data pipeline was opened, and by that restores its order.

A part that reshuffles draws its seeds when it is opened, from a counter that all pipelines share which were made of it.
`data_iterator` restores the counter of the data of a `fit`. Where others open the same part, or a callback opens a
pipeline of its own, a resumed run opens the part as often as the original run did.
"""

import functools
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from samebits.runner.checkpoint.data import data_iterator
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.compat import multi_worker, tensorflow_private
from samebits.runner.compat.patches import Patches

_OPENED_AT_ONCE = frozenset(
    {
        *("Batch", "Filter", "Map", "Options", "PaddedBatch", "ParallelBatch", "ParallelMap", "Prefetch", "Rebatch"),
        *("Restructured", "Shard", "Skip", "Take", "TakeWhile", "Unbatch", "Zip"),
    }
)
"""Kinds of pipeline that open their sources exactly once, and when they are opened themselves."""


class PipelineOpenings:
    """Counts openings of the parts that were created outside of every phase, in the order of their creation.

    They are numbered anew after each phase, as a resumed run may create fewer parts in a phase. `passed` gives the
    pipelines that the loop which is running restores itself: on a resume, a finished loop opens none of them.
    """

    def __init__(self, passed: Callable[[], Iterable[Any]] = tuple) -> None:
        self._passed = passed
        self._known: dict[str, weakref.ref[Any]] = {}
        self._created: Counter[int] = Counter()
        self._names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._all: Counter[str] = Counter()
        self._since: Counter[str] = Counter()

    def install(self, patches: Patches, opened: Callable[[Any], None], phases: Callable[[], int | None]) -> None:
        """Wrap the creation of reshuffling parts, and the opening of pipelines by others than `fit` itself.

        `opened` is called with a pipeline that was opened. `phases` gives the number of phases so far; None in one.
        """
        import tensorflow as tf

        def noting_new(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def make(part: Any, *arguments: Any, **options: Any) -> None:
                original(part, *arguments, **options)
                number = phases()
                if number is not None and tf.executing_eagerly() and data_iterator.reshuffles(part):
                    self._add(part, number)

            return make

        def noting_opened(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def opening(dataset: Any) -> Any:
                iterator = original(dataset)
                if not data_iterator.is_followed():
                    self.note(dataset, data=False)
                    opened(dataset)
                return iterator

            return opening

        patches.wrap(tensorflow_private.shuffle_location(), noting_new)
        patches.wrap((tf.data.Dataset, "__iter__"), noting_opened)

    def _add(self, part: Any, phases: int) -> None:
        """A reshuffling part was created, after so many phases."""
        name = f"{phases}.{self._created[phases]}"
        self._created[phases] += 1
        self._names[part] = name
        self._known[name] = weakref.ref(part)

    def begin_phase(self) -> None:
        """Count from here what is opened after the data of the phase."""
        self._since.clear()

    def note(self, dataset: Any, *, data: bool) -> None:
        """A pipeline was opened; `data` says whether it is the data that the phase trains with."""
        for part in data_iterator.first_reshuffling(dataset):
            name = self._names.get(part)
            if name is not None and not self._is_passed(part):
                self._all[name] += 1
                self._since[name] = 0 if data else self._since[name] + 1

    def note_read(self, dataset: Any) -> None:
        """The first element of a pipeline is drawn: a part that shuffles opens its source only then."""
        first = data_iterator.first_reshuffling(dataset)
        for part in data_iterator.reshuffling_parts(dataset):
            if part in self._names and not self._is_passed(part) and not any(part is other for other in first):
                self._all[self._names[part]] += 1

    def _is_passed(self, part: Any) -> bool:
        return any(part is other for item in self._passed() for other in data_iterator.reshuffling_parts(item))

    def is_counted(self, dataset: Any) -> bool:
        """Whether opening a pipeline opens each of its reshuffling parts once, and these are all known."""
        parts = data_iterator.reshuffling_parts(dataset)
        return all(part in self._names for part in parts) and _opens_at_once(dataset)

    def capture(self) -> dict[str, list[int]]:
        """How often each part was opened: in all, and after the data of the phase."""
        return {name: [number, self._since[name]] for name, number in sorted(self._all.items())}

    def restore(self, saved: Mapping[str, list[int]], data: Any, *, opened: bool) -> None:
        """Open every part as often as it was. Raises UncapturableError.

        `data` is what the phase trains with. The parts that it opens at once count from its last opening. `opened` says
        that they were restored to that.
        """
        inside = {self._names.get(part) for part in data_iterator.first_reshuffling(data)}
        if opened:
            self._since.clear()
        for name in saved:
            part = self._known[name]() if name in self._known else None
            index = int(name in inside)
            missing = saved[name][index] - (self._since if index else self._all)[name]
            if missing and part is None:
                raise UncapturableError("the script makes other tf.data pipelines when it runs again")
            if missing < 0:
                raise UncapturableError(
                    "a reshuffling tf.data pipeline is opened more often when the script runs again"
                )
            for _ in range(missing):
                data_iterator.open_again(part)
                self.note(part, data=False)
        self._all = Counter({name: number for name, (number, _) in saved.items()})
        self._since = Counter({name: number for name, (_, number) in saved.items()})


def are_separate(data: Any, validation: Any) -> bool:
    """Whether two arguments of `fit` open no reshuffling part in common: they would share its counter."""
    import tensorflow as tf

    data, validation = (multi_worker.source_of(item) or item for item in (data, validation))
    if not all(isinstance(item, tf.data.Dataset) for item in (data, validation)):
        return True
    others = data_iterator.reshuffling_parts(validation)
    return not any(part is other for part in data_iterator.reshuffling_parts(data) for other in others)


def _opens_at_once(dataset: Any) -> bool:
    if not data_iterator.reshuffles(dataset):
        return True
    sources = tensorflow_private.source_datasets(dataset)
    # A shuffle opens its source with the first element.
    if tensorflow_private.reshuffles_each_iteration(dataset):
        return not any(map(data_iterator.reshuffles, sources))
    kind = type(dataset).__name__.strip("_").removesuffix("Dataset")
    # An empty pipeline opens nothing.
    if kind not in _OPENED_AT_ONCE or int(dataset.cardinality()) == 0:
        return False
    return all(map(_opens_at_once, sources))
