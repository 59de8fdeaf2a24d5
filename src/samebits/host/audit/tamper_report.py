"""What was edited in a chain of lines: which lines were changed, removed, added, moved, or cannot be read."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from samebits.core.errors import pluralize
from samebits.host.audit.hash_chain import HashChain, IntactRun, Problem, longest_order

Span = tuple[int, int]
"""The numbers of the first and the last of consecutive lines."""

_FOREIGN = "line 1 does not follow from the recipe: the ledger is of another recipe"


def find_problems(chain: HashChain) -> list[Problem]:
    """All edits, by line; empty only where the chain has no break at all.

    Lines of version 1.0 have no numbers: of these, only the first break is known.
    """
    chain.finish()
    if chain.first_break is None:
        return []
    found = sorted(_edits(chain)) if chain.numbered else []
    return found or [chain.first_break]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Gap:
    """Two neighbouring runs that are in order, and the lines between them that cannot be read."""

    before: IntactRun
    after: IntactRun
    unreadable: int
    reason: str

    @property
    def missing(self) -> range:
        """The numbers of lines that should be here."""
        return range(self.before.end + 1, self.after.first)

    @property
    def lost(self) -> range:
        """Those of them that are neither here nor among the unreadable ones."""
        return self.missing[self.unreadable :]


def _edits(chain: HashChain) -> Iterator[Problem]:
    # Lines keep their numbers when they are moved, so the order of the numbers shows which edit it was.
    gaps, strays = _in_order(chain)
    broken, unwitnessed = _broken_links(gaps)
    if 0 in broken and 1 not in broken | unwitnessed:
        # Line 1 is as it was written: the whole ledger is another one, and its lines were not edited.
        yield 1, _FOREIGN
        return
    # The last run stands for the record's end; what has its number or a higher one was added.
    stop = chain.runs[-1].first
    yield from _describe_edit(((number, number) for number in chain.renumbered - broken), "changed")
    yield from _changed_lines(broken, unwitnessed)
    yield from _unreadable(gaps)
    yield from _misplaced([run for run in strays if run.first < stop], gaps)
    if added := sum(run.end + 1 - run.first for run in strays if run.first >= stop):
        yield stop, f"{_were(stop, stop - 1 + added)} added at the end: the record names {pluralize(stop - 1)}"


def _in_order(chain: HashChain) -> tuple[list[_Gap], list[IntactRun]]:
    """The gaps between the runs that are in order, from the recipe to the record's end; and all other runs."""
    end = chain.runs[-1]
    candidates = [run for run in chain.runs[:-1] if run.first < end.first]
    kept = {id(candidates[index]) for index in longest_order(candidates)} | {id(end)}
    gaps, strays = [], []
    before, unreadable, reason = IntactRun(first=0, end=0, digest=chain.recipe), 0, ""
    for run in chain.runs:
        unreadable, reason = unreadable + run.unreadable, reason or run.reason
        # Unreadable lines next to a moved run stay in this gap, as they have no number.
        if id(run) not in kept:
            strays.append(run)
            continue
        gaps.append(_Gap(before=before, after=run, unreadable=unreadable, reason=reason))
        before, unreadable, reason = run, 0, ""
    return gaps, sorted(strays, key=lambda run: run.first)


def _broken_links(gaps: list[_Gap]) -> tuple[set[int], set[int]]:
    """Lines whose digest is not the one that the next line carries; and lines for which there is no next line.

    0 is the recipe. The record's end counts as the line after the last.
    """
    broken, unwitnessed = set(), set()
    for gap in gaps:
        # Without its neighbour, or without its digest, nothing confirms or refutes the line.
        if gap.missing or None in (gap.before.digest, gap.after.previous):
            unwitnessed.add(gap.before.end)
        elif gap.before.digest != gap.after.previous:
            broken.add(gap.before.end)
    return broken, unwitnessed


def _changed_lines(broken: set[int], unwitnessed: set[int]) -> Iterator[Problem]:
    """Lines whose digest is not the one that was recorded.

    A link breaks where the line was changed, or where the next line's copy of its digest was. Of several broken links
    in a row, the last line was certainly changed if a witness confirms the line after it; the others perhaps.
    """
    for first, last in _merged((line, line) for line in broken):
        # The line after the last broken link may be the edited one itself.
        if last + 1 in unwitnessed:
            what = f"lines {max(first, 1)} to {last + 1}: at least one was changed"
            yield max(first, 1), what if last else f"{_FOREIGN}, or the line was changed"
        else:
            others = range(max(first, 1), last)
            perhaps = f", and {_name_lines(others[0], others[-1])} perhaps too" if others else ""
            yield last, f"line {last} was changed{perhaps}"


def _unreadable(gaps: list[_Gap]) -> Iterator[Problem]:
    for gap in gaps:
        if not gap.unreadable:
            continue
        # As many unreadable lines as missing ones: they were edited in place.
        if found := gap.missing[: gap.unreadable]:
            yield found[0], f"{_name_lines(found[0], found[-1])} cannot be read: {gap.reason}"
        else:
            where = f"after line {gap.before.end}" if gap.before.end else "before line 1"
            yield gap.before.end + 1, f"{pluralize(gap.unreadable)} added {where} cannot be read: {gap.reason}"


def _misplaced(strays: list[IntactRun], gaps: list[_Gap]) -> Iterator[Problem]:
    """Lines that are not where they belong: moved where they are missing there, else added a second time.

    `strays` are sorted by number.
    """
    starts = [gap.lost.start for gap in gaps]
    moved: list[IntactRun] = []
    added: list[IntactRun] = []
    for run in strays:
        # A line is moved if its own place is empty, and only once; further copies were added.
        is_missing = run.first in gaps[max(bisect_right(starts, run.first) - 1, 0)].lost
        is_first = not moved or run.first > moved[-1].end
        (moved if is_missing and is_first else added).append(run)
    yield from _describe_edit(((run.first, run.end) for run in moved), "moved")
    yield from _describe_edit(((run.first, run.end) for run in added), "added a second time")
    firsts = [run.first for run in moved]
    for gap in gaps:
        inside = moved[bisect_left(firsts, gap.lost.start) : bisect_left(firsts, gap.lost.stop)]
        # The lines between the moved ones are nowhere in the file.
        edges = [gap.lost.start, *(edge for run in inside for edge in (run.first, run.end + 1)), gap.lost.stop]
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if start < stop:
                yield start, f"{_were(start, stop - 1)} removed"


def _describe_edit(spans: Iterable[Span], edit: str) -> Iterator[Problem]:
    for first, last in _merged(spans):
        yield first, f"{_were(first, last)} {edit}"


def _merged(spans: Iterable[Span]) -> list[Span]:
    """The same lines in as few spans as possible."""
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged


def _name_lines(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _were(first: int, last: int) -> str:
    return f"{_name_lines(first, last)} {'was' if first == last else 'were'}"
