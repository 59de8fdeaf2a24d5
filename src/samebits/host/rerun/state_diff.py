"""Compare two checkpoints of one position: does a segment end in the state from which the next one begins?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.checkpoint_store import Checkpoint
from samebits.core.jsonio import differing_names

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
    """Every difference between two checkpoints of the same position."""
    found = list(_state_differences(one.state, other.state))
    return StateDiff(
        training=tuple(name for name, is_used in found if is_used),
        own=tuple(name for name, is_used in found if not is_used),
    )


def _state_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The name of each difference, and whether training uses the value."""
    for name in differing_names(one, other):
        if name == "objects":
            # The script's objects are compared one by one, everything else as a whole.
            objects = [_decode_objects(state[name]) for state in (one, other)]
            for root in differing_names(*objects):
                # A root that only one checkpoint has differs from None.
                before, after = (found.get(root) for found in objects)
                is_used = root in _DATA_ROOTS or {_kind(before), _kind(after)} & _ROOT_KINDS
                for inner, *values in _attribute_differences(root, before, after):
                    yield inner, bool(is_used) or any(_holds_training_state(value) for value in values)
        elif name == "written":
            yield from ((path, False) for path in _differing_files(one[name], other[name]))
        else:
            yield name, True


def _decode_objects(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """Roots and globals by name, without the numbers of repeated objects, which shift with every new object."""
    # Numbers mark repeated objects, so one additional object would change all that follow.
    roots = {name: _without_numbers(item) for name, item in encoded["roots"]}
    return roots | {f"{module}.{name}": _without_numbers(item) for module, name, item in encoded["globals"]}


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
    before, after = (
        item.get("object", {}).get("attributes", {}) if isinstance(item, Mapping) else {} for item in (one, other)
    )
    found = [(f"{name}.{inner}", before.get(inner), after.get(inner)) for inner in differing_names(before, after)]
    return found or [(name, one, other)]


def _differing_files(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    files = [{path: rest for path, *rest in written["files"]} for written in (one, other)]
    return [f"output file {path}" for path in differing_names(*files)] or ["the output folder"]
