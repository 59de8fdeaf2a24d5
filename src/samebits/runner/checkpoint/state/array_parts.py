"""Arrays whose memory is a part of another one's: what is written to one shows in the other."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from samebits.runner.checkpoint.state.capture import StateCapture
from samebits.runner.checkpoint.state.encoding import PART, UncapturableError

_MOST_WORK = 10_000
"""How long it is tried to find an element that two arrays share; they do where that is not known by then."""
_Visit = tuple[dict[str, Any], Any, str]
"""A captured array: as it is encoded, itself, and where it was found."""


def mark_parts(nodes: Iterable[dict[str, Any]], captured: StateCapture, place_of: Callable[[Any], str | None]) -> None:
    """Mark in captured state each new array that shares memory with another one: with which, and where it begins.

    `nodes` are the arrays, `place_of` says where an initial one was, and None for others. Raises UncapturableError.
    """
    groups: dict[int, list[_Visit]] = defaultdict(list)
    for node in nodes:
        value, where = captured.visited(node["#"])
        groups[id(owner_of(value))].append((node, value, where))
    for group in groups.values():
        for visit, others in _sharing(group) if len(group) > 1 else ():
            if place_of(visit[1]) is None:
                _mark(*visit, others, place_of)


def _sharing(group: list[_Visit]) -> Iterator[tuple[_Visit, list[_Visit]]]:
    """Each array of one owner that shares memory with others, with these, in the order of their visits."""
    others: dict[int, list[int]] = defaultdict(list)
    active: list[tuple[int, int]] = []
    for first, last, index in sorted((_first(item[1]), _last(item[1]), index) for index, item in enumerate(group)):
        active = [known for known in active if known[0] > first]
        for _, other in active:
            if _share(group[index][1], group[other][1]):
                others[index].append(other)
                others[other].append(index)
        active.append((last, index))
    for index in sorted(others):
        yield group[index], [group[other] for other in sorted(others[index])]


def _share(one: Any, other: Any) -> bool:
    import numpy as np

    try:
        return bool(np.shares_memory(one, other, max_work=_MOST_WORK))
    except np.exceptions.TooHardError:
        return True


def _mark(
    node: dict[str, Any],
    value: Any,
    where: str,
    others: list[_Visit],
    place_of: Callable[[Any], str | None],
) -> None:
    for _, whole, _ in others:
        if (place := place_of(whole)) is not None:
            node[PART] = [place, _address(value) - _address(whole)]
            return
    earlier = [item for item in others if item[0]["#"] < node["#"]]
    for other, whole, _ in earlier:
        if is_inside(value, whole):
            node[PART] = [other["#"], _address(value) - _address(whole)]
            return
    if earlier:
        raise UncapturableError(
            f"{where} shares memory with {earlier[0][2]} since training began, which a resumed run cannot repeat; copy"
            " one of them"
        )


def owner_of(array: Any) -> Any:
    """The array to which the memory of a part belongs; what is no part of another one itself."""
    import numpy as np

    # Other objects are not asked: a class of the script may raise anything for an attribute that it has not.
    while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
        array = array.base
    return array


def is_inside(part: Any, whole: Any) -> bool:
    """Whether all memory of a part is that of an array without gaps in either order, as a copy of that has it, too."""
    start, offset = _first(part), _first(whole)
    return whole.flags.forc and start >= offset and _last(part) <= offset + whole.nbytes


def part_of(whole: Any, offset: int, saved: Any) -> Any:
    """An array of the saved content whose memory is a part of another one's, `offset` bytes after its first element.

    Raises UncapturableError where it is too small.
    """
    import numpy as np

    owner = owner_of(whole)
    memory = owner.reshape(-1, order="A").view(np.ndarray).view("uint8")
    start = _address(whole) + offset - _address(memory)
    try:
        found = np.ndarray(saved.shape, saved.dtype, memory, start, saved.strides)
    except (TypeError, ValueError) as error:
        raise UncapturableError("an array is too small to share its memory again") from error
    found[...] = saved
    found.flags.writeable = saved.flags.writeable
    return found


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _first(array: Any) -> int:
    spans = (min(0, (n - 1) * int(step)) for n, step in zip(array.shape, array.strides, strict=True))
    start: int = _address(array) + sum(spans)
    return start


def _last(array: Any) -> int:
    spans = (max(0, (n - 1) * int(step)) for n, step in zip(array.shape, array.strides, strict=True))
    end: int = _address(array) + sum(spans) + array.itemsize
    return end
