"""What of a run's checkpoints can be relied on: held against its recipe, its ledger, and their own digests."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from samebits.core.checkpoint_store import LAST, Checkpoint, Position
from samebits.core.digest import Digest
from samebits.core.errors import RecordError, shorten
from samebits.core.record import FINISHED, RUNNING, Record
from samebits.core.run_dir import RunDir
from samebits.host.audit.ledger_audit import check_ledger


def refusals(run: RunDir, record: Record) -> tuple[str, ...]:
    """Why a run cannot be resumed exactly, as it found out itself; a run that was killed has left it in a file."""
    found = run.checkpoints.refused()
    if found or record.resumable is None:
        return found
    if record.resumable.resumable:
        return ()
    return record.resumable.reasons or ("it does not say why",)


def why_not_resumable(run: RunDir, record: Record) -> str | None:
    """Why a run cannot be resumed, whatever its checkpoints are; None where it can."""
    if record.outcome.state == RUNNING:
        return "it is still running; stop it, or wait for its end"
    if record.outcome.state == FINISHED:
        return "it finished already; nothing to resume"
    if not record.retention.writes:
        return "it keeps no checkpoints (keep none); train it anew"
    if not run.image.exists():
        return "it ended before its training began; train it anew"
    reasons = refusals(run, record)
    return f"not exactly: {'; '.join(reasons)}; train it anew" if reasons else None


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerLines:
    """A ledger's whole lines: how many there are, how many bytes, and at some of them, bytes so far and digest."""

    lines: int
    size: int
    marks: dict[int, tuple[int, Digest]]


def read_lines(run: RunDir, record: Record, numbers: Iterable[int]) -> LedgerLines:
    """Follow the ledger, without a line that was cut off; raises RecordError where it is not as it was written."""
    check = check_ledger(run.ledger, record)
    if check.problems:
        raise RecordError(f"{run.ledger}: {shorten(check.problems, 1)}; nothing can go on from it, train anew")
    wanted, marks, size = set(numbers), {0: (0, record.recipe.digest)}, 0
    try:
        with run.ledger.open("rb") as file:
            for number, raw in zip(range(1, check.lines + 1), file, strict=False):
                size += len(raw)
                if number in wanted:
                    marks[number] = size, Digest.of_bytes(raw.removesuffix(b"\n"))
    except OSError as error:
        raise RecordError(f"cannot read {run.ledger}: {error.strerror}") from error
    return LedgerLines(lines=check.lines, size=size, marks=marks)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointAudit:
    """A run's checkpoints, each read once: those that belong to it by their own word, and what is wrong with others."""

    run: RunDir
    ledger: LedgerLines
    good: dict[Position, Checkpoint]
    bad: dict[Position, str]
    _seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, run: RunDir, record: Record) -> Self:
        """Read all of them, without the bytes that they name; raises RecordError where the ledger is not whole."""
        good, bad = {}, {}
        for place in run.checkpoints.positions():
            try:
                good[place] = run.checkpoints.read(place)
            except RecordError as error:
                bad[place] = str(error)
        ledger = read_lines(run, record, (found.lines for found in good.values()))
        for place, found in list(good.items()):
            if wrong := _foreign(found, record, ledger):
                bad[place] = f"{run.checkpoints.path(place)} {wrong}"
                del good[place]
        return cls(run=run, ledger=ledger, good=good, bad=bad)

    def size(self, place: Position | None) -> int:
        """How many bytes of the ledger there were at a good checkpoint; None is the beginning."""
        return 0 if place is None else self.ledger.marks[self.good[place].lines][0]

    def lines(self, place: Position | None) -> int:
        """How many lines of the ledger there were at a good checkpoint; None is the beginning."""
        return 0 if place is None else self.good[place].lines

    def wrong(self, place: Position) -> str | None:
        """What is wrong with one checkpoint, its bytes included; None where it can be relied on."""
        if place in self.bad:
            return self.bad[place]
        for text in self.good[place].objects:
            if text in self._seen:
                continue
            try:
                self.run.checkpoints.content(Digest.parse(text))
            except RecordError as error:
                return str(error)
            self._seen.add(text)
        return None

    def wrong_with_needed(self, place: Position) -> str | None:
        """The same of all that it takes to go on from there."""
        found = (self.wrong(needed) for needed in self.run.checkpoints.needed(place))
        return next((wrong for wrong in found if wrong is not None), None)

    def furthest(self, tell: Callable[[str], None]) -> Position | None:
        """The last that can be gone on from; what is wrong with a later one is told, once."""
        told = set()
        for place in sorted({*self.good, *self.bad}, key=lambda place: place.order, reverse=True):
            wrong = self.wrong_with_needed(place)
            if wrong is None:
                return place
            if wrong not in told:
                tell(f"{wrong}; taking an earlier checkpoint")
            told.add(wrong)
        return None

    def taken_over(self, place: Position | None, keep: str) -> tuple[Position, ...]:
        """What a run that goes on from there is given: what it needs, and what it would have kept as well."""
        if place is None:
            return ()
        needed = self.run.checkpoints.needed(place)
        kept = [] if keep == LAST else [found for found in self.good if found.order <= place.order]
        more = [found for found in kept if found not in needed and self.wrong(found) is None]
        return tuple(sorted([*needed, *more], key=lambda place: place.order))


def _foreign(found: Checkpoint, record: Record, ledger: LedgerLines) -> str | None:
    """Why a checkpoint is none of this run's, for the end of a sentence that begins with its path."""
    if found.recipe != record.recipe.digest:
        return f"is of another recipe, {found.recipe.short}"
    mark = ledger.marks.get(found.lines)
    if mark is None:
        return f"names line {found.lines} of a ledger that has {ledger.lines}"
    return None if mark[1] == found.last else f"names another line {found.lines} than the ledger has"
