"""What was done to a chain of lines, in words and by line: changed, removed, moved, copied, added."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

from samebits.core.errors import pluralize
from samebits.core.record import LedgerEnd
from samebits.host.audit.hash_chain import Chain, Gap, IntactRun, Layout, arrange

Problem = tuple[int, str]
"""The number of the first line that is meant, and what is wrong."""

_MAX_STRAYS = 1000  # beyond, who moved where is no help to anyone


def find_problems(chain: Chain) -> list[Problem]:
    """All that is wrong, by line; nothing where each follows the one before, from the recipe to the record's last."""
    end = chain.end
    if not chain.items and end is not None and end.lines:
        return [(0, f"the ledger is empty, and the record names {pluralize(end.lines)}")]
    layout = arrange(chain.items, end)
    broken, loose = _broken_links(layout, chain.recipe, end)
    problems: list[Problem] = []
    if _is_foreign(layout, broken, loose):
        problems.append((1, "line 1 does not follow from the recipe: the ledger is of another recipe"))
        broken -= {0, 0 if end is None else end.lines}
        layout.slots[-1].missing, end = [], None  # where the ledger of another recipe ends says nothing
    problems += _strays(layout)
    for slot in layout.slots[:-1]:
        problems += _lost(slot)
    problems += _lost_at_the_end(layout, end)
    problems += _added(layout, end)
    problems += _changed(broken, loose) if layout.numbered else _not_following(broken, end)
    problems += _misnumbered(layout, broken)
    return sorted(problems)


def _named(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _were(first: int, last: int) -> str:
    return f"{_named(first, last)} {'was' if first == last else 'were'}"


def _where(after: int) -> str:
    return f"after line {after}" if after else "at the beginning"


def _broken_links(layout: Layout, recipe: str, end: LedgerEnd | None) -> tuple[set[int], set[int]]:
    """The lines whose digest is not the one that the next line, or the record, has; and those without such a witness.

    0 is the recipe, whose digest the first line must carry.
    """
    broken, loose = set(), set()
    stop = None if end is None else end.lines
    first = IntactRun(first=0, end=0, place=0, previous="", digest=recipe)
    for stretch, after in pairwise((first, *layout.kept, None)):
        if stretch is None:
            continue
        if end is not None and max(stretch.first, 1) <= end.lines <= stretch.end and stretch.at_end != end.last:
            broken.add(end.lines)
        if stop is not None and stretch.end >= stop:
            continue
        if after is None or after.first != stretch.end + 1 or stretch.digest is None:
            loose.add(stretch.end)
        elif after.previous != stretch.digest:
            broken.add(stretch.end)
    return broken, loose


def _is_foreign(layout: Layout, broken: set[int], loose: set[int]) -> bool:
    """Whether the first line is as it was written, and was written after another recipe."""
    return layout.numbered and 0 in broken and not {1} & (broken | loose)


def _strays(layout: Layout) -> Iterator[Problem]:
    """Lines that are not in their places."""
    strays = [(index, stray) for index, slot in enumerate(layout.slots) for stray in slot.strays]
    if len(strays) > _MAX_STRAYS:
        for slot in layout.slots:
            slot.missing = []
        first = min(stray.first for _, stray in strays)
        yield first, f"from line {first} on, {len(strays)} lines or groups are not in their places, or missing"
        return
    homes = dict(_homes(layout))
    done: set[int] = set()
    for index, stray in strays:
        if id(stray) in done:
            continue
        done.add(id(stray))
        home = homes.get(id(stray))
        if home is None or not layout.slots[home].holds(stray):
            stands = "stands" if stray.count == 1 else "stand"
            after = _where(layout.slots[index].after)
            yield stray.first, f"{_named(stray.first, stray.end)} {stands} a second time, {after}"
            continue
        layout.slots[home].claim(stray.first, stray.end)
        yield _moved(layout, homes, done, index, stray)


def _homes(layout: Layout) -> Iterator[tuple[int, int]]:
    """By the identity of a stray, the slot in which it is missing."""
    starts = [slot.after for slot in layout.slots]
    for slot in layout.slots:
        for stray in slot.strays:
            home = bisect_right(starts, stray.first - 1) - 1
            if layout.slots[home].holds(stray):
                yield id(stray), home


def _moved(layout: Layout, homes: dict[int, int], done: set[int], index: int, stray: IntactRun) -> Problem:
    """A line that stands elsewhere; where another one has its place in return, both are named."""
    home = homes[id(stray)]
    for other in layout.slots[home].strays:
        if homes.get(id(other)) == index and id(other) not in done:
            done.add(id(other))
            layout.slots[index].claim(other.first, other.end)
            return _exchanged(stray, other)
    between = layout.kept[min(index, home)]
    if abs(index - home) == 1 and stray.count == between.count == 1:
        return _exchanged(stray, between)
    return stray.first, f"{_were(stray.first, stray.end)} moved: now {_where(layout.slots[index].after)}"


def _exchanged(one: IntactRun, other: IntactRun) -> Problem:
    one, other = sorted((one, other), key=lambda stretch: stretch.first)
    return one.first, f"{_named(one.first, one.end)} and {_named(other.first, other.end)} were exchanged"


def _lost(slot: Gap, *, at_the_end: bool = False) -> Iterator[Problem]:
    """What cannot be read, and what is not there at all."""
    for item in slot.unreadable:
        lost = slot.take(item.count if at_the_end else None)
        if item.cut and lost:
            yield lost[0], f"line {lost[0]} is cut off, and the sealed record has it whole"
        elif item.cut:
            yield slot.after + 1, f"{_where(slot.after)} stands a piece of a line"
        elif lost:
            yield lost[0], f"{_named(lost[0], lost[-1])} cannot be read: {item.reason}"
        else:
            stand = "stands 1 line" if item.count == 1 else f"stand {item.count} lines"
            yield slot.after + 1, f"{_where(slot.after)} {stand} that cannot be read: {item.reason}"
    for numbers in slot.missing:
        yield numbers[0], f"{_were(numbers[0], numbers[-1])} removed{' from the end' if at_the_end else ''}"


def _lost_at_the_end(layout: Layout, end: LedgerEnd | None) -> Iterator[Problem]:
    slot = layout.slots[-1]
    if layout.numbered or end is None or slot.unreadable or not slot.missing:
        yield from _lost(slot, at_the_end=True)
    else:  # without numbers, lines that were removed before the end look the same
        yield slot.after, f"the ledger has {pluralize(slot.after)}, and the record names {end.lines}"


def _added(layout: Layout, end: LedgerEnd | None) -> Iterator[Problem]:
    """Lines behind the last one that the record names."""
    last = layout.kept[-1].end if layout.kept else 0
    if end is not None and last > end.lines:
        first = end.lines + 1
        yield first, f"{_were(first, last)} added at the end: the record names {pluralize(end.lines)}"


def _changed(broken: set[int], loose: set[int]) -> Iterator[Problem]:
    """Lines whose digest is not the one that was written down.

    A link breaks where a line was changed, or where the next line's word of it was. So of links in a row, the last
    line was changed for certain if it has a witness, and the ones before it perhaps.
    """
    for link in sorted(broken):
        if link + 1 in broken:
            continue
        first = link
        while first - 1 in broken:
            first -= 1
        first = max(first, 1)
        if link == 0:
            yield 1, "line 1 does not follow from the recipe: it was changed, or the ledger is of another recipe"
        elif link + 1 in loose:
            some = f"line {link} or line {link + 1}" if first == link else f"some of lines {first} to {link + 1}"
            yield first, f"{some} {'was' if first == link else 'were'} changed"
        elif first == link:
            yield link, f"line {link} was changed"
        else:
            yield link, f"line {link} was changed, and {_named(first, link - 1)} perhaps too"


def _not_following(broken: set[int], end: LedgerEnd | None) -> Iterator[Problem]:
    """The same of lines without numbers: the chain alone cannot tell what was done."""
    for link in sorted(broken):
        if end is not None and link == end.lines:
            yield link, f"line {link} is not the last line that the record names"
        elif link == 0:
            yield 1, "line 1 does not follow from the recipe: it was changed, or is not the first, or of another recipe"
        else:
            what = "one of them was changed, or lines were removed, added or moved there"
            yield link + 1, f"line {link + 1} does not follow line {link}: {what}"


def _misnumbered(layout: Layout, broken: set[int]) -> Iterator[Problem]:
    """Lines that only call themselves otherwise; what they carry of the line before is right."""
    for stretch in layout.kept:
        if stretch.renumbered and stretch.first not in broken:
            yield stretch.first, f"line {stretch.first} was changed: it gives itself another number"
