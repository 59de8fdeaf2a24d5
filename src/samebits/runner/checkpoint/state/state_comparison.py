"""Compares the state in two checkpoints of one position, and names what differs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from samebits.core.errors import RecordError
from samebits.runner.checkpoint.state.encoding import NEW

_WHOLE = frozenset({"variable", "array", "tensor", "scalar", "bytes", "float", "constant", "held"})
"""Kinds of value that are named as a whole."""

OUTPUTS = ("written", "written_beside_code")
"""The parts that hold output files: those in the output folder, and those beside the script."""

TEMPORARY = "written_in_temporary_folder"
"""The part that holds temporary files. Their names may differ, and no result holds them: they are not compared."""

_NUMBERS = frozenset({"#", "again"})
"""Keys of the number of an object, and of a reference to it."""
_NOT_COMPARED = _NUMBERS | {NEW}
"""Whether something still holds the first object in a place may depend on when Python collects it."""

_PARTS = {
    "told": "what was observed",
    "stepped": "the optimizers that made steps",
    "feed": "the position in the data",
    "begun": "the data at the beginning of the epoch",
    "validation": "the position in the validation data",
    "openings": "how often tf.data pipelines were opened",
    "datasets": "the position in a tf.data pipeline",
    "over": "whether fit has ended",
    "logs": "the logs of the last epoch",
}
"""The parts of a checkpoint other than objects and output files, as messages name them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StateDifference:
    """One difference: its name, and the two encoded values.

    `holders` are the classes of the objects that hold the value, the innermost last; `attributes` are the names by
    which each is reached.
    """

    name: str
    one: Any
    other: Any
    holders: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()


def state_differences(
    one: Mapping[str, Any], other: Mapping[str, Any], live: Mapping[str, Any]
) -> Iterator[StateDifference]:
    """Every difference between two states, the script's objects first; `live` are the roots now, for their names.

    `one` was read from its file, `other` was captured just now. Output files are left out. Raises RecordError for a
    malformed state.
    """
    try:
        yield from _Comparison(live).objects(one["objects"], other["objects"])
        for name in sorted((one.keys() | other.keys()) - {"objects", *OUTPUTS, TEMPORARY}):
            # Iterators and observations hold no objects of the script.
            found = _Comparison({}).values(_PARTS.get(name, name), one.get(name), other.get(name))
            if next(found, None) is not None:
                yield StateDifference(name=_PARTS.get(name, name), one=one.get(name), other=other.get(name))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"the state of a checkpoint is malformed: {error!r}") from error


@dataclass(slots=True)
class _Comparison:
    """One walk over two encoded states. Numbers of repeated objects may differ, but not what they refer to."""

    live: Mapping[str, Any]
    holders: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    _numbers: dict[int, int] = field(default_factory=dict)

    def objects(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[StateDifference]:
        """The roots in their order, then the globals."""
        yield from self._named(dict(one["roots"]), dict(other["roots"]))
        saved = [{f"{module}.{name}": item for module, name, item in state["globals"]} for state in (one, other)]
        yield from self._named(*saved)

    def _named(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[StateDifference]:
        # In the order of the checkpoints: an object is encoded where it was met first.
        for name in dict.fromkeys([*one, *other]):
            live = self.live.get(name)
            # The name of a global is that of its module and its own.
            self.attributes = (name.rpartition(".")[2],)
            yield from self.values(name, one.get(name), other.get(name), live)

    def values(self, name: str, one: Any, other: Any, live: Any = None) -> Iterator[StateDifference]:
        """The differences between two encoded values."""
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from self._mappings(name, one, other, live)
        elif isinstance(one, list) and isinstance(other, (list, tuple)):
            yield from self._lists(name, one, other, live)
        elif type(one) is not type(other) or one != other:
            yield self._difference(name, one, other)

    def _mappings(
        self, name: str, one: Mapping[str, Any], other: Mapping[str, Any], live: Any
    ) -> Iterator[StateDifference]:
        if not self._same_object(one, other):
            yield self._difference(name, one, other)
            return
        # In the order of the capture: variables come before the optimizer that trains them.
        keys = [key for key in other if key not in _NOT_COMPARED]
        if set(keys) != one.keys() - _NOT_COMPARED or _WHOLE.intersection(keys):
            if {key: other[key] for key in keys} != {
                key: item for key, item in one.items() if key not in _NOT_COMPARED
            }:
                yield self._difference(name, one, other)
            return
        for key in keys:
            yield from self._inner(name, key, one[key], other[key], live)

    def _inner(self, name: str, key: str, one: Any, other: Any, live: Any) -> Iterator[StateDifference]:
        if key == "object" and isinstance(one, Mapping):
            self.holders = (*self.holders, str(one.get("class")))
            yield from self.values(name, one, other, live)
            self.holders = self.holders[:-1]
        elif key in ("attributes", "fixed") and isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from self._attributes(name, one, other, live)
        elif key in ("variables", "trained") and isinstance(one, list) and isinstance(other, list):
            yield from self._variables(name, one, other, live)
        else:
            yield from self.values(name, one, other, live)

    def _attributes(
        self, name: str, one: Mapping[str, Any], other: Mapping[str, Any], live: Any
    ) -> Iterator[StateDifference]:
        for attribute in dict.fromkeys([*one, *other]):
            inner = None
            # Only names are taken from the live object, and any class may refuse.
            with suppress(Exception):
                inner = getattr(live, attribute, None)
            outer, self.attributes = self.attributes, (*self.attributes, attribute)
            yield from self.values(f"{name}.{attribute}", one.get(attribute), other.get(attribute), inner)
            self.attributes = outer

    def _variables(self, name: str, one: list[Any], other: list[Any], live: Any) -> Iterator[StateDifference]:
        if len(one) != len(other):
            yield self._difference(f"the number of variables of {name}", one, other)
            return
        names: list[str] = []
        with suppress(Exception):
            names = [str(variable.name) for variable in live.variables]
        for index, pair in enumerate(zip(one, other, strict=True)):
            inner = names[index] if len(names) == len(one) else f"variable {index}"
            yield from self.values(f"{name}.{inner}", *pair)

    def _lists(self, name: str, one: list[Any], other: Sequence[Any], live: Any) -> Iterator[StateDifference]:
        if len(one) != len(other):
            yield self._difference(name, one, other)
            return
        for index, pair in enumerate(zip(one, other, strict=True)):
            inner = live[index] if isinstance(live, (list, tuple)) and index < len(live) else None
            yield from self.values(name, *pair, inner)

    def _same_object(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether two encoded values are, or refer to, corresponding objects."""
        for key in sorted(_NUMBERS):
            if (key in one) != (key in other):
                return False
            # A reference may stand before the object, as the keys of a file are sorted.
            if key in one and self._numbers.setdefault(one[key], other[key]) != other[key]:
                return False
        return True

    def _difference(self, name: str, one: Any, other: Any) -> StateDifference:
        return StateDifference(name=name, one=one, other=other, holders=self.holders, attributes=self.attributes)
