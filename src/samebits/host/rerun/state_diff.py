"""Whether a segment ends in the state that the next one begins from: two checkpoints of one place, part by part."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.checkpoint_store import Checkpoint
from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields, differing_names

_NO_CLOCKS = frozenset(
    {
        *("layer", "optimizer", "variable"),
        *("python_random", "numpy_state", "numpy_generator", "tensorflow_generator"),
    }
)
"""Kinds, as `container/reach` writes them, that make a difference wherever they are held."""

_OF_TRAINING = _NO_CLOCKS | {"array", "tensor"}
"""Those that training computes with where they stand by themselves."""

_DATA = frozenset({"x", "validation_data"})


@dataclass(frozen=True, kw_only=True, slots=True)
class StateDiff:
    """Names of what differs: what the next segment computes with, and what only the script itself holds or wrote.

    The latter may hold the time of day, as a callback's seconds or a zipped model do; it is in no line of the ledger.
    A generator or a variable is none of that, whoever holds it.
    """

    training: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


def compare_states(one: Checkpoint, other: Checkpoint) -> StateDiff:
    """Everything in which two checkpoints of the same place differ; raises RecordError for what is no checkpoint's."""
    try:
        found = list(_differing(one.state, other.state))
    except RecursionError as error:
        raise RecordError("'state' is nested too deeply") from error
    return StateDiff(
        training=tuple(name for name, of_training in found if of_training),
        own=tuple(name for name, of_training in found if not of_training),
    )


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Each name, and whether training computes with it."""
    for name in differing_names(one, other):
        if name == "objects":
            objects = [_objects(Fields(state, "state").inner(name)) for state in (one, other)]
            for root in differing_names(*objects):
                before, after = (found.get(root) for found in objects)
                of_training = root in _DATA or {_kind(before), _kind(after)} & _OF_TRAINING
                for inner, *parts in _inside(root, before, after):
                    yield inner, bool(of_training) or any(_computes(part) for part in parts)
        elif name == "written":
            written = [_files(Fields(state, "state").inner(name)) for state in (one, other)]
            paths = [f"output file {path}" for path in differing_names(*written)]
            yield from ((path, False) for path in paths or ["how the output folder stands"])
        else:
            yield name, True


def _objects(encoded: Fields) -> dict[str, Any]:
    """Roots and globals by name, without the numbers by which things met again are told: those shift."""
    roots = {name: _plain(item) for name, item in _rows(encoded, "roots", 1)}
    return roots | {f"{module}.{name}": _plain(item) for module, name, item in _rows(encoded, "globals", 2)}


def _rows(fields: Fields, name: str, names: int) -> list[list[Any]]:
    """A list of rows, each of so many names and one value."""
    rows = fields.items(name, list)
    for index, row in enumerate(rows):
        if len(row) != names + 1 or not all(isinstance(item, str) for item in row[:names]):
            raise RecordError(f"'{fields.path(name)}[{index}]' must hold {names} names and a value")
    return list(rows)


def _plain(encoded: Any) -> Any:
    if isinstance(encoded, Mapping):
        return {name: None if name == "again" else _plain(item) for name, item in encoded.items() if name != "#"}
    return [_plain(item) for item in encoded] if isinstance(encoded, list) else encoded


def _kind(encoded: Any) -> str:
    """What an encoded value is."""
    return next((name for name in encoded if name not in ("#", "class")), "") if isinstance(encoded, Mapping) else ""


def _computes(encoded: Any) -> bool:
    """Whether something that training computes with is held anywhere in a value."""
    if isinstance(encoded, Mapping):
        return _kind(encoded) in _NO_CLOCKS or any(_computes(item) for item in encoded.values())
    return isinstance(encoded, list) and any(_computes(item) for item in encoded)


def _inside(name: str, one: Any, other: Any) -> list[tuple[str, Any, Any]]:
    """The attributes in which two objects of the script's own differ, or the whole; each with its two values."""
    before, after = (_attributes(item) for item in (one, other))
    found = [(f"{name}.{inner}", before.get(inner), after.get(inner)) for inner in differing_names(before, after)]
    return found or [(name, one, other)]


def _attributes(encoded: Any) -> Mapping[str, Any]:
    """Those of an object of the script's own; none of anything else."""
    for name in ("object", "attributes"):
        encoded = encoded.get(name) if isinstance(encoded, Mapping) else None
    return encoded if isinstance(encoded, Mapping) else {}


def _files(written: Fields) -> dict[str, list[Any]]:
    """Mode and digest of each output file by its path."""
    found: dict[str, list[Any]] = {}
    for index, row in enumerate(written.items("files", list)):
        if not row or not isinstance(row[0], str):
            raise RecordError(f"'{written.path('files')}[{index}]' must begin with a path")
        found[row[0]] = row[1:]
    return found
