"""Whether lines that carry each other's digests are still those that were written, and which of them were touched.

Lines that follow each other as they were written form a stretch. What is wrong with a ledger is read from its
stretches: numbers that are missing between two, that come twice, or in another order; and digests that do not match.
Nothing else of a line is kept, so that memory grows with what is wrong, not with the ledger.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from samebits.core.record import LedgerEnd


@dataclass(frozen=True, kw_only=True, slots=True)
class LineLink:
    """What chains a line: the number it gives itself (none before version 1.1), the digest it carries, and its own."""

    number: int | None
    previous: str
    digest: str


@dataclass(kw_only=True, slots=True)
class IntactRun:
    """Lines that follow each other as they were written, `first` to `end`; `place` is the first's in the file.

    `previous` is the digest that the first carries, `digest` the end's own (unknown where None), `at_end` that of the
    line which the record names as the last. `linked`: only its number does not follow from what stands before it.
    """

    first: int
    end: int
    place: int
    previous: str
    digest: str | None
    linked: bool = False
    numbered: bool = True
    renumbered: bool = False
    at_end: str | None = None

    @property
    def count(self) -> int:
        """How many lines."""
        return self.end - self.first + 1


@dataclass(kw_only=True, slots=True)
class Unreadable:
    """Lines in a row that are none of a ledger's, with the first one's reason; `cut`: the last has no end."""

    reason: str
    count: int = 1
    cut: bool = False


class Chain:
    """Takes the lines in the order of the file, and says at the end what is wrong with them."""

    def __init__(self, recipe: str, end: LedgerEnd | None) -> None:
        self.recipe = recipe
        self.end = end
        self._previous = recipe
        self._place = 0
        self.items: list[IntactRun | Unreadable] = []

    def add(self, link: LineLink) -> bool:
        """One line; returns whether it follows the one before it, which is then as it was written."""
        self._place += 1
        number = link.number or self._place
        last = self.items[-1] if self.items else None
        follows = link.previous == self._previous
        if isinstance(last, IntactRun) and follows and number == last.end + 1:
            last.end, last.digest = number, link.digest
        else:
            last = self._begin(number, link, linked=follows)
        if self.end is not None and number == self.end.lines:
            last.at_end = link.digest
        self._previous = link.digest
        return follows

    def _begin(self, number: int, link: LineLink, *, linked: bool) -> IntactRun:
        stretch = IntactRun(
            first=number,
            end=number,
            place=self._place,
            previous=link.previous,
            digest=link.digest,
            linked=linked,
            numbered=link.number is not None,
        )
        self.items.append(stretch)
        return stretch

    def add_unreadable(self, reason: str, *, cut: bool = False) -> None:
        """One line that is none of a ledger's."""
        self._place += 1
        self._previous = ""
        last = self.items[-1] if self.items else None
        if isinstance(last, Unreadable) and not cut:
            last.count += 1
        else:
            self.items.append(Unreadable(reason=reason, cut=cut))


@dataclass(kw_only=True, slots=True)
class Gap:
    """What stands between two stretches that are in order: `after` line (0: the beginning), before the next one.

    `missing` are the ranges of numbers that should stand here.
    """

    after: int
    strays: list[IntactRun]
    unreadable: list[Unreadable]
    missing: list[range]

    def holds(self, stretch: IntactRun) -> bool:
        """Whether all of the stretch is missing here."""
        return any(stretch.first in numbers and stretch.end in numbers for numbers in self.missing)

    def claim(self, first: int, end: int) -> None:
        """These are not missing any more."""
        parts = []
        for numbers in self.missing:
            inside = first in numbers
            parts += [range(numbers.start, first), range(end + 1, numbers.stop)] if inside else [numbers]
        self.missing = [numbers for numbers in parts if numbers]

    def take(self, most: int | None) -> range:
        """The first of the missing numbers, which are accounted for now."""
        taken = self.missing[0][:most] if self.missing else range(0)
        if taken:
            self.claim(taken[0], taken[-1])
        return taken


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The stretches in order, and what stands between them: one slot more than stretches."""

    kept: list[IntactRun]
    slots: list[Gap]

    @property
    def numbered(self) -> bool:
        """Whether the lines tell their numbers; those of version 1.0 do not."""
        return all(stretch.numbered for stretch in self.kept)


def arrange(items: list[IntactRun | Unreadable], end: LedgerEnd | None) -> Layout:
    """Part the stretches that are in order, as many lines as possible, from what stands between them."""
    items = list(_breaks(_renumbered(items)))
    stretches = [item for item in items if isinstance(item, IntactRun)]
    lines = max((stretch.end for stretch in stretches), default=0) if end is None else end.lines
    in_order = {id(stretches[index]) for index in _longest_order(stretches)}
    kept: list[IntactRun] = []
    slots = [Gap(after=0, strays=[], unreadable=[], missing=[])]
    for item in items:
        if isinstance(item, Unreadable):
            slots[-1].unreadable.append(item)
        elif id(item) not in in_order:
            slots[-1].strays.append(item)
        else:
            slots[-1].missing = _range(slots[-1].after + 1, min(item.first, lines + 1))
            slots.append(Gap(after=item.end, strays=[], unreadable=[], missing=[]))
            kept.append(item)
    slots[-1].missing = _range(slots[-1].after + 1, lines + 1)
    return Layout(kept=kept, slots=slots)


def _range(start: int, stop: int) -> list[range]:
    return [range(start, stop)] if start < stop else []


def _renumbered(items: list[IntactRun | Unreadable]) -> Iterator[IntactRun | Unreadable]:
    """A line that carries the right digest is the one that belongs there, whatever it calls itself."""
    before: IntactRun | None = None
    for number, item in enumerate(items):
        if isinstance(item, Unreadable):
            before = None
            yield item
            continue
        right = before.end + 1 if before is not None else 1
        if item.linked and item.count == 1 and item.first != right and (number == 0 or before is not None):
            item = replace(item, first=right, end=right, renumbered=True)  # noqa: PLW2901  the same line
        before = item
        yield item


def _breaks(items: Iterator[IntactRun | Unreadable]) -> Iterator[IntactRun | Unreadable]:
    """Part a stretch where the next begins again within it: what is there twice is one of its own."""
    held: IntactRun | Unreadable | None = None
    for item in items:
        if isinstance(held, IntactRun) and isinstance(item, IntactRun) and held.first < item.first <= held.end:
            yield replace(held, end=item.first - 1, digest=None)
            held = replace(held, first=item.first, place=held.place + item.first - held.first)
        if held is not None:
            yield held
        held = item
    if held is not None:
        yield held


_MAX_ORDERED = 1 << 40  # more than there are lines: of two orders with as many, the one with more lines in their places


def _longest_order(stretches: list[IntactRun]) -> list[int]:
    """The stretches whose numbers rise, with as many lines as possible, in n log n."""
    ends, best = [0], [(0, -1)]
    before: list[int] = []
    for index, stretch in enumerate(stretches):
        weight, previous = best[bisect_left(ends, stretch.first) - 1]
        weight += stretch.count * (_MAX_ORDERED + (stretch.first == stretch.place))
        before.append(previous)
        if best[bisect_right(ends, stretch.end) - 1][0] >= weight:
            continue
        at = stop = bisect_left(ends, stretch.end)
        while stop < len(ends) and best[stop][0] <= weight:
            stop += 1
        ends[at:stop], best[at:stop] = [stretch.end], [(weight, index)]
    found, index = [], best[-1][1]
    while index >= 0:
        found.append(index)
        index = before[index]
    return found
