"""Which of a run's checkpoints are usable: check them against its recipe, its ledger, and their own digests."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.core.digest import Digest
from samebits.core.errors import RecordError, pluralize, shorten
from samebits.core.ledger import last_steps
from samebits.core.record import FAILED, FINISHED, RUNNING, Record
from samebits.core.retention import LAST
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_lines
from samebits.host.audit.ledger_audit import check_ledger

_RECENT = 4  # lines before a checkpoint, among which its step's is found
NEVER_BEGAN = "it ended before its training began; train it again"


def refusals(run: RunDir, record: Record) -> tuple[str, ...]:
    """Why a run cannot be resumed exactly, as the run itself recorded; a killed run left the reasons in a file."""
    # The file comes first: a killed run has no record of its own end.
    store = run.checkpoints_now
    found = store.refused() or tuple(
        f"{reason} (worker {index})"
        for index in range(1, record.recipe.world_size)
        for reason in store.of_worker(index).refused()
    )
    if found or record.resumable is None:
        return found
    if record.resumable.resumable:
        return ()
    return record.resumable.reasons or ("no reason was recorded",)


def why_not_resumable(run: RunDir, record: Record, *, retry: bool = False) -> str | None:
    """Why a run cannot be resumed, whatever its checkpoints hold; None if it can.

    `retry` is whether to run a script again that failed by itself.
    """
    # The order matters: the first reason is the one that the user can act on.
    if record.outcome.state == RUNNING:
        return _why_it_may_run(record)
    if record.outcome.state == FINISHED:
        return "it has finished; nothing to resume"
    if not record.retention.writes:
        return "it keeps no checkpoints (keep none); train it again"
    if not run.image.exists():
        return NEVER_BEGAN
    # Only the script's own end has an exit status: resuming repeats it, unless its cause was outside of the script.
    if record.outcome.state == FAILED and record.outcome.exit_status is not None and not retry:
        return (
            f"{record.outcome.message}; resuming runs the same code again: correct the script and train, or, if the"
            " cause was outside of it, use --retry-failed"
        )
    reasons = refusals(run, record)
    return f"not exactly: {'; '.join(reasons)}; train it again" if reasons else None


def _why_it_may_run(record: Record) -> str:
    # A lock or a process that cannot be seen from here proves nothing.
    if record.outcome.message is not None:
        return f"it was {record.outcome.message}; resume it there, or, if that machine is gone, use --ended"
    return "it is still running; stop it, or wait until it ends: without its launcher it ends by itself"


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerLines:
    """A ledger's whole lines: their number, their bytes, and for some lines the bytes up to there and the digest.

    `steps` are the epochs and steps of `fit` that the last lines up to those have digests for.
    """

    lines: int
    size: int
    marks: dict[int, tuple[int, Digest]]
    steps: dict[int, set[tuple[int, int]]] = field(default_factory=dict)


def read_lines(run: RunDir, record: Record, numbers: Iterable[int]) -> LedgerLines:
    """Read the ledger without a line that was cut off; raises RecordError if it was edited."""
    check = check_ledger(run.ledger, record)
    if check.problems:
        raise RecordError(f"{run.ledger}: {shorten(check.problems, 1)}; it cannot be resumed, train again")
    wanted, marks, size = set(numbers), {0: (0, record.recipe.digest)}, 0
    recent: deque[bytes] = deque(maxlen=_RECENT)
    steps: dict[int, set[tuple[int, int]]] = {}
    try:
        # `zip` stops before a line that was cut off.
        for number, raw in zip(range(1, check.lines + 1), plain_lines(run.ledger), strict=False):
            size += len(raw)
            recent.append(raw)
            if number in wanted:
                steps[number] = _steps(recent)
                marks[number] = size, Digest.of_bytes(raw.removesuffix(b"\n"))
    except OSError as error:
        raise RecordError(f"cannot read {run.ledger}: {error.strerror}") from error
    return LedgerLines(lines=check.lines, size=size, marks=marks, steps=steps)


def _steps(lines: Sequence[bytes]) -> set[tuple[int, int]]:
    """The epochs and steps of traced steps of `fit`, after the last epoch's end."""
    found = set()
    for values in last_steps(reversed(lines)):
        epoch, step = values.get("epoch"), values.get("step")
        # The fast digests of step lines locate a difference. Who looks for a collision finds one.
        fast = '"xxh3' in json.dumps(values.get("tensors"))
        if type(epoch) is int and type(step) is int and not fast:
            found.add((epoch, step))
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointAudit:
    """A run's checkpoints, each read once: `good` ones belong to the run by their metadata, `bad` ones with the reason.

    Their contents are checked on demand, by `wrong`.
    """

    run: RunDir
    ledger: LedgerLines
    good: dict[Position, Checkpoint]
    bad: dict[Position, str]
    _checked: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, run: RunDir, record: Record) -> Self:
        """Read the metadata of all checkpoints; raises RecordError if the ledger was edited."""
        good, bad = {}, {}
        for position in run.checkpoints.positions():
            try:
                good[position] = run.checkpoints.read(position)
            except RecordError as error:
                bad[position] = str(error)
        # A checkpoint refers to a ledger line by number and digest: the ledger is read once for all of them.
        ledger = read_lines(run, record, (found.lines for found in good.values()))
        for position, found in list(good.items()):
            if wrong := _foreign(found, record, ledger):
                bad[position] = f"{run.checkpoints.path(position)} {wrong}"
                del good[position]
        return cls(run=run, ledger=ledger, good=good, bad=bad)

    def size(self, position: Position | None) -> int:
        """The ledger's size in bytes at a good checkpoint; None is the beginning."""
        return 0 if position is None else self.ledger.marks[self.good[position].lines][0]

    def lines(self, position: Position | None) -> int:
        """The ledger's number of lines at a good checkpoint; None is the beginning."""
        return 0 if position is None else self.good[position].lines

    def wrong(self, position: Position) -> str | None:
        """What is wrong with one checkpoint, its contents included; None if it is usable."""
        # A checkpoint with bad metadata names objects that cannot be trusted, either.
        if position in self.bad:
            return self.bad[position]
        # Checkpoints share most of their objects, so each object is hashed once.
        for text in self.good[position].objects:
            if text in self._checked:
                continue
            try:
                self.run.checkpoints.check_content(Digest.parse(text))
            except RecordError as error:
                return str(error)
            self._checked.add(text)
        return None

    def wrong_with_needed(self, position: Position) -> str | None:
        """What is wrong with a checkpoint or with one that resuming from it needs; None if nothing is."""
        found = (self.wrong(needed) for needed in self.run.checkpoints.needed(position))
        return next((wrong for wrong in found if wrong is not None), None)

    def confirmed(self, position: Position) -> bool:
        """Whether the ledger has, or the replay will have, digests of what a checkpoint holds.

        The runner compares them: those of a finished epoch's line, or of a traced step's. What begins before a line
        that exists must reproduce it.
        """
        found = self.good[position]
        return (
            position.step is None
            or self.ledger.lines > found.lines
            or (position.epoch, position.step - 1) in self.ledger.steps.get(found.lines, ())
        )

    def furthest(self, report: Callable[[str], None], before: Position | None = None) -> Position | None:
        """The last usable checkpoint, or the last one `before` another; `report` gets each problem of a later one."""
        reported = set()
        found = [item for item in (*self.good, *self.bad) if before is None or item.order < before.order]
        # From the last to the first: every checkpoint that is skipped costs training time.
        for position in sorted(found, key=lambda position: position.order, reverse=True):
            wrong = self.wrong_with_needed(position)
            if wrong is None:
                return position
            if wrong not in reported:
                report(f"{wrong}; using an earlier checkpoint")
            reported.add(wrong)
        return None

    def taken_over(self, *positions: Position | None, keep: str) -> tuple[Position, ...]:
        """The checkpoints that a resumed run gets: what it needs of these, and what it would have kept itself."""
        given = [position for position in positions if position is not None]
        if not given:
            return ()
        needed = {found for position in given for found in self.run.checkpoints.needed(position)}
        furthest = max(position.order for position in given)
        # A damaged checkpoint that is not needed is left out: it would fail a later audit.
        kept = [] if keep == LAST else [found for found in self.good if found.order <= furthest]
        more = [found for found in kept if found not in needed and self.wrong(found) is None]
        return tuple(sorted([*needed, *more], key=lambda position: position.order))


def _foreign(found: Checkpoint, record: Record, ledger: LedgerLines) -> str | None:
    """Why a checkpoint belongs to another run: the end of a sentence that begins with its path."""
    if found.recipe != record.recipe.digest:
        return f"is of another recipe, {found.recipe.short}"
    # The recipe alone does not identify a run: two runs of one recipe may diverge.
    mark = ledger.marks.get(found.lines)
    if mark is None:
        return f"refers to line {found.lines} of a ledger with {pluralize(ledger.lines)}"
    return None if mark[1] == found.last else f"refers to another line {found.lines} than the ledger has"
