"""The replay proof: a resumed run trains up to the last checkpoint of the old run again, and must reproduce it.

It begins at an earlier checkpoint, or at the beginning of the script. What the checkpoints do not capture then shows as
a difference, before anything new is trained. Ledger lines are compared by the ledger itself.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from samebits.core.checkpoint_store import Checkpoint, CheckpointStore, Position
from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.origin import ResumedRun
from samebits.runner.checkpoint.process_state.clock_values import holds_time
from samebits.runner.checkpoint.state.state_comparison import OUTPUTS, state_differences
from samebits.runner.digests.output_files import content_digest
from samebits.runner.process.console import log


class ReplayProof:
    """The checkpoints of the old run that a resumed run must reproduce. Without any, it demands nothing."""

    def __init__(self, store: CheckpointStore, resumes: ResumedRun | None, code: Path) -> None:
        self._store = store
        self._code = code
        self._start = None if resumes is None else resumes.checkpoint
        self._end = None if resumes is None else resumes.replays
        self.is_skipped = resumes is not None and resumes.trusted
        self._left = list(self._wanted())

    def _wanted(self) -> Iterator[Position]:
        """The stored checkpoints after the start, up to the end of the proof."""
        if self._end is not None:
            for position in self._store.positions():
                begun = self._start is None or position.order > self._start.order
                if begun and position.order <= self._end.order:
                    yield position

    @property
    def complete(self) -> bool:
        """Whether every one of them was reproduced."""
        return not self._left

    def awaits(self, position: Position) -> bool:
        """Whether the next checkpoint, at this position, must be reproduced."""
        return position in self._left[:1]

    def precedes(self, position: Position) -> bool:
        """Whether a position lies before the next checkpoint that must be reproduced.

        A run that was resumed from a checkpoint there would prove less: not all that led to the old one.
        """
        return bool(self._left) and position.order < self._left[0].order

    def begin_phase(self, number: int) -> None:
        """Raise InputError if a phase begins after those that should have been reproduced."""
        if self._left and number > self._left[0].phase:
            raise self._error("the training did not reach it")

    def check(self, reached: Checkpoint | None, position: Position, live: Callable[[], Mapping[str, Any]]) -> None:
        """Compare the checkpoint at an awaited position; raises InputError with the name of the first difference.

        `reached` is None if there is none, for a reason that was reported. `live` are the roots of the state.
        """
        if not self._left or position.order < self._left[0].order:
            return
        if position != self._left[0]:
            raise self._error("the training did not reach it")
        if reached is None:
            raise self._error("no checkpoint could be written there again")
        name = next(self._differences(self._store.read(position), reached, live()), None)
        if name is not None:
            raise self._error(f"{name} differs")
        del self._left[0]
        if not self._left:
            log(f"{position} was reproduced; the training continues")

    def require_complete(self) -> None:
        """Raise InputError if the script ended before everything was reproduced."""
        if self._left:
            raise self._error("the script ended before it")

    def _error(self, reason: str) -> InputError:
        start = "the beginning" if self._start is None else self._start
        return InputError(
            f"the training that resumed from {start} did not reproduce {self._left[0]}: {reason}; nothing after it was"
            " trained; see `samebits check --resume`, or train again"
        )

    def _differences(self, one: Checkpoint, other: Checkpoint, live: Mapping[str, Any]) -> Iterator[str]:
        """The names of the differences, without times of day."""
        if (one.lines, one.last) != (other.lines, other.last):
            yield f"the number of ledger lines ({one.lines} and {other.lines})"
        for found in state_differences(one.state, other.state, live):
            if holds_time(found, self._code):
                log(f"not compared: {found.name} holds a time, which differs in every training")
            else:
                yield found.name
        for name in OUTPUTS:
            yield from self._differing_files(one.state[name], other.state[name])

    def _differing_files(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
        """Output files, folders and links that differ, and positions in open files."""
        before, after = ({row[0]: row[1:] for row in written["files"]} for written in (one, other))
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) != after.get(path) and not self._same_content(path, before.get(path), after.get(path)):
                yield f"output file {path}"
        for kind, name in (("folders", "output folder"), ("links", "output link"), ("open", "position in output file")):
            rows = [sorted(map(str, written[kind])) for written in (one, other)]
            # Positions in an archive with times may differ as its bytes do.
            for row in sorted(set(rows[0]) ^ set(rows[1])):
                yield f"{name} {row}"

    def _same_content(self, path: str, one: list[Any] | None, other: list[Any] | None) -> bool:
        """Whether two files hold the same, apart from the times in a model file."""
        if one is None or other is None or one[0] != other[0]:
            return False
        suffix = PurePosixPath(path).suffix
        digests = [content_digest(self._store.objects / Digest.parse(item[1]).hex, suffix) for item in (one, other)]
        return None not in digests and digests[0] == digests[1]
