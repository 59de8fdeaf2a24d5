"""Compare two checkpoints of one position: does a segment end in the state from which the next one begins?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.checkpoint_store import Checkpoint
from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields, differing_names

_TRAINING_KINDS = frozenset(
    {
        *("layer", "optimizer", "variable"),
        *("python_random", "numpy_state", "numpy_generator", "tensorflow_generator"),
    }
)
"""Kinds of value, as `runner/checkpoint` encodes them, that training uses wherever they are held."""

_ROOT_KINDS = _TRAINING_KINDS | {"array", "tensor"}
"""Kinds that training uses if they are roots themselves."""

_DATA_ROOTS = frozenset({"x", "validation_data"})


@dataclass(frozen=True, kw_only=True, slots=True)
class StateDiff:
    """Names of what differs: `training` uses it, or only the script itself (`own`) holds or wrote it.

    The script's own state may hold the time of day, such as the seconds of a callback or the dates in a zipped model.
    A generator or a variable belongs to training, whoever holds it.
    """

    training: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


def compare_states(one: Checkpoint, other: Checkpoint) -> StateDiff:
    """Every difference between two checkpoints of the same position; raises RecordError for a malformed state."""
    try:
        found = list(_state_differences(one.state, other.state))
    except RecursionError as error:
        raise RecordError("'state' is nested too deeply") from error
    return StateDiff(
        training=tuple(name for name, is_used in found if is_used),
        own=tuple(name for name, is_used in found if not is_used),
    )


def _state_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The name of each difference, and whether training uses the value."""
    for name in differing_names(one, other):
        if name == "objects":
            # The script's objects are compared one by one, everything else as a whole.
            objects = [_decode_objects(Fields(state, "state").inner(name)) for state in (one, other)]
            for root in differing_names(*objects):
                # A root that only one checkpoint has differs from None.
                before, after = (found.get(root) for found in objects)
                is_used = root in _DATA_ROOTS or {_kind(before), _kind(after)} & _ROOT_KINDS
                for inner, *values in _attribute_differences(root, before, after):
                    yield inner, bool(is_used) or any(_holds_training_state(value) for value in values)
        elif name in ("written", "written_beside_code"):
            if _compared(one.get(name)) == _compared(other.get(name)):
                continue
            files = [_decode_files(Fields(state, "state").optional_inner(name)) for state in (one, other)]
            paths = [f"output file {path}" for path in differing_names(*files)]
            yield from ((path, False) for path in paths or ["the output folder"])
        # The names of temporary files may differ, and nothing of them is in the result.
        elif name != "written_in_temporary_folder":
            yield name, True


def _decode_objects(encoded: Fields) -> dict[str, Any]:
    """Roots and globals by name, without the numbers of repeated objects, which shift with every new object."""
    # Numbers mark repeated objects, so one additional object would change all that follow.
    roots = {name: _without_numbers(item) for name, item in _rows(encoded, "roots", 1)}
    return roots | {f"{module}.{name}": _without_numbers(item) for module, name, item in _rows(encoded, "globals", 2)}


def _rows(fields: Fields, name: str, names: int) -> list[list[Any]]:
    """The list `name` of rows. Each row holds `names` names and one value."""
    rows = fields.items(name, list)
    for index, row in enumerate(rows):
        if len(row) != names + 1 or not all(isinstance(item, str) for item in row[:names]):
            raise RecordError(f"'{fields.path(name)}[{index}]' must hold {names} names and a value")
    return list(rows)


def _without_numbers(encoded: Any) -> Any:
    if isinstance(encoded, Mapping):
        return {
            name: None if name == "again" else _without_numbers(item) for name, item in encoded.items() if name != "#"
        }
    return [_without_numbers(item) for item in encoded] if isinstance(encoded, list) else encoded


def _kind(encoded: Any) -> str:
    """The kind of an encoded value."""
    return next((name for name in encoded if name not in ("#", "class")), "") if isinstance(encoded, Mapping) else ""


def _holds_training_state(encoded: Any) -> bool:
    """Whether a value holds, at any depth, something that training uses."""
    if isinstance(encoded, Mapping):
        return _kind(encoded) in _TRAINING_KINDS or any(_holds_training_state(item) for item in encoded.values())
    return isinstance(encoded, list) and any(_holds_training_state(item) for item in encoded)


def _attribute_differences(name: str, one: Any, other: Any) -> list[tuple[str, Any, Any]]:
    """The attributes in which two objects of the script differ, or else the objects; each with its two values."""
    before, after = (_attributes(item) for item in (one, other))
    found = [(f"{name}.{inner}", before.get(inner), after.get(inner)) for inner in differing_names(before, after)]
    return found or [(name, one, other)]


def _attributes(encoded: Any) -> Mapping[str, Any]:
    """The attributes of an object of the script; empty for any other value."""
    for name in ("object", "attributes"):
        encoded = encoded.get(name) if isinstance(encoded, Mapping) else None
    return encoded if isinstance(encoded, Mapping) else {}


def _compared(written: Any) -> Any:
    """Output files without what differs between any two trainings: their times, and files that the result ignores."""
    if not isinstance(written, Mapping):
        return written
    return {name: rows for name, rows in written.items() if name not in {"times", "ignored"}}


def _decode_files(written: Fields | None) -> dict[str, list[Any]]:
    """Mode and digest of each output file by its path; checkpoints of earlier versions lack some."""
    files: dict[str, list[Any]] = {}
    if written is None:
        return files
    for index, row in enumerate(written.items("files", list)):
        if not row or not isinstance(row[0], str):
            raise RecordError(f"'{written.path('files')}[{index}]' must begin with a path")
        files[row[0]] = row[1:]
    return files
