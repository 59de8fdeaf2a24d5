"""Follow a ledger's hash chain: find the first line that breaks it, and the intact runs of lines around it.

Detection is strict and needs no interpretation: `first_break` is set as soon as one digest or one number is wrong.
The runs serve `tamper_report`, which says what was edited. Memory grows with the edits, not with the ledger.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace

from samebits.core.errors import pluralize
from samebits.core.record import LedgerEnd

Problem = tuple[int, str]
"""The number of the first line that is affected, and what is wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LineLink:
    """What chains a line: its number (None before version 1.1), the digest it carries, and its own digest."""

    number: int | None
    previous: str
    digest: str


@dataclass(kw_only=True, slots=True)
class IntactRun:
    """Lines `first` to `end`, each following the one before. `place` is the first line's position in the file.

    `previous` is the digest that the first line carries, `digest` the last line's own; None where it is unknown.
    `unreadable` counts the lines right before the run that cannot be read; `reason` is the first one's.
    """

    first: int
    end: int
    place: int = 0
    previous: str | None = None
    digest: str | None = None
    unreadable: int = 0
    reason: str = ""


class HashChain:
    """Takes a ledger's lines in the order of the file."""

    def __init__(self, recipe: str, end: LedgerEnd | None) -> None:
        self.end = end
        self.recipe = recipe
        self.runs: list[IntactRun] = []
        self.renumbered: set[int] = set()
        self.numbered = True
        self.first_break: Problem | None = None
        self._place = 0
        # The recipe counts as line 0: the first line carries its digest.
        self._number = 0
        self._digest: str | None = recipe
        self._unreadable = (0, "")

    def add(self, link: LineLink) -> bool:
        """Add one line; returns whether it carries the digest of the line before, which is then as it was written."""
        self._place += 1
        number = self._place if link.number is None else link.number
        self.numbered = self.numbered and link.number is not None
        # An edit of the line before changes its digest, so this one comparison detects every edit.
        follows = link.previous == self._digest
        if not follows:
            self._note_break(f"line {self._place} does not follow the line before: one of them was edited")
        elif number != self._number + 1:
            # The digest proves that this is the next line, so only its number was edited.
            self._note_break(f"line {self._place} has the number {number}")
            number = self._number + 1
            self.renumbered.add(number)
        self._append(number, link, follows=follows)
        self._number, self._digest = number, link.digest
        return follows

    def add_unreadable(self, reason: str) -> None:
        """Add one line that is not a ledger's."""
        self._place += 1
        self._note_break(f"line {self._place} cannot be read: {reason}")
        count, first = self._unreadable
        self._unreadable = count + 1, first or reason
        self._digest = None

    def finish(self) -> None:
        """Compare the last line with the end that the record names, and close the list of runs."""
        end = self.end
        # Lines that were cut from the end leave an intact chain, so only the record's end reveals them.
        if end is not None and (self._place, self._digest) != (end.lines, end.last):
            has = f"{pluralize(self._place)}, and the record names {end.lines}"
            other = f"another line {end.lines} than the record names"
            self._note_break(f"the ledger has {other if self._place == end.lines else has}")
        # The end is like one more line: it carries the digest of the last one.
        number = 1 + (max((run.end for run in self.runs), default=0) if end is None else end.lines)
        self._begin(IntactRun(first=number, end=number, previous=None if end is None else end.last))

    def _note_break(self, text: str) -> None:
        if self.first_break is None:
            self.first_break = self._place, text

    def _append(self, number: int, link: LineLink, *, follows: bool) -> None:
        # A line after the record's last one begins a run of its own, even with the right digest: it was added later.
        beyond = self.end is not None and number == self.end.lines + 1
        if follows and self.runs and not beyond:
            self.runs[-1].end, self.runs[-1].digest = number, link.digest
            return
        # A copy within the last run: split there, so that the lines after it can follow either of the two.
        last = self.runs[-1] if self.runs else None
        if last is not None and last.first < number <= last.end:
            place = last.place + number - last.first
            self.runs[-1:] = [
                replace(last, end=number - 1, digest=None),
                IntactRun(first=number, end=last.end, place=place, digest=last.digest),
            ]
        run = IntactRun(first=number, end=number, place=self._place, previous=link.previous, digest=link.digest)
        self._begin(run)

    def _begin(self, run: IntactRun) -> None:
        run.unreadable, run.reason = self._unreadable
        self._unreadable = (0, "")
        self.runs.append(run)


_IN_PLACE = 1 << 40  # more than any number of lines, so that places only decide between orders of the same length


def longest_order(runs: list[IntactRun]) -> list[int]:
    """Indices of the runs whose numbers rise, with as many lines as possible; takes n log n."""
    ends, best = [0], [(0, -1)]
    before: list[int] = []
    for index, run in enumerate(runs):
        # `best[i]` is the heaviest order that ends with line `ends[i]`; both lists rise.
        weight, previous = best[bisect_left(ends, run.first) - 1]
        weight += (run.end - run.first + 1) * _IN_PLACE + (run.first == run.place)
        before.append(previous)
        if best[bisect_right(ends, run.end) - 1][0] >= weight:
            continue
        at = stop = bisect_left(ends, run.end)
        # Orders that end later and weigh less can never win again.
        while stop < len(ends) and best[stop][0] <= weight:
            stop += 1
        ends[at:stop], best[at:stop] = [run.end], [(weight, index)]
    found, index = [], best[-1][1]
    while index >= 0:
        found.append(index)
        index = before[index]
    return found[::-1]
