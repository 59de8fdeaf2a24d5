"""One party of a challenge: its run, and what it gives of it, trained again to one epoch or one step of it."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError, SamebitsError, shorten
from samebits.core.record import FINISHED, INTERRUPTED, Record
from samebits.core.run_config import DOCUMENTED
from samebits.core.run_dir import RunDir
from samebits.core.trace_level import STEP, TENSOR, Trace
from samebits.core.workers import describe_workers
from samebits.host.compare.ledger_diff import line_values, read_lines
from samebits.host.console import log_progress
from samebits.host.rerun.challenge_file import Challenge, PlacedDigest, TracedEpoch, first_difference
from samebits.host.rerun.divergence import Side, checkpoint_before, require_reproduced, train_traced
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.verify import damages, preflight_for, retrainer
from samebits.host.runs.registry import checksum_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Party:
    """Our run: what its record gives, the number of each line in its file, and how it is trained again."""

    challenge: Challenge
    numbers: tuple[int, ...]
    side: Callable[[], Side]

    def line(self, index: int) -> int:
        """The number of a line of our ledger, which may hold steps, too; or of the line that would follow."""
        return [*self.numbers, (self.numbers or (0,))[-1] + 1][index]

    @classmethod
    def of(cls, run: RunDir, request: RerunRequest) -> Self:
        """Raises an error unless the run is finished, whole, and can be traced."""
        record = run.read()
        if record.recipe.world_size > 1:
            raise InputError(f"{describe_workers(record.recipe.world_size)}, and no trace of steps to challenge with")
        if record.outcome.state == INTERRUPTED:
            raise RecordError(f"{record.id} was interrupted; finish it by `samebits resume {record.id}`")
        if record.outcome.state != FINISHED or record.result_digest is None:
            raise RecordError(f"{record.id} has no result; a challenge is about a finished run")
        if wrong := damages(run, record):
            raise RecordError(f"{record.id} is not as it was recorded: {shorten(wrong, 1)}")
        lines = [(line.number, line_values(run, line) or {}) for line in read_lines(run, steps=False)]
        own = Challenge(
            run=record.id,
            record=Digest.parse(checksum_of(run)),
            recipe=record.recipe.digest,
            result=record.result_digest,
            ledger=tuple(PlacedDigest.of_line(values) for _, values in lines),
        )
        numbers = tuple(number for number, _ in lines)
        return cls(challenge=own, numbers=numbers, side=lambda: _side(run, record, request))

    def traced(self, index: int, own: TracedEpoch | None, theirs: TracedEpoch | None) -> TracedEpoch:
        """The steps of the epoch, and once theirs are known, the tensors of the first that differs."""
        place, number = self.challenge.ledger[index], self.numbers[index]
        window = Trace(level=TENSOR, fit=place.fit, epoch=place.epoch)
        if own is None:
            return self._train(window, number, lambda lines: _collect(lines, theirs))
        wanted = None if own.line is not None or theirs is None else _differing_step(own, theirs)
        if wanted is None:
            return own
        one = self._train(replace(window, step=wanted.step), number, lambda lines: _collect(lines, None, keep=wanted))
        return replace(own, line=one.line)

    def _train(
        self, window: Trace, number: int, collect: Callable[[Iterator[dict[str, Any]]], TracedEpoch]
    ) -> TracedEpoch:
        """Train our run again to a window in the epoch of line `number`; it must reproduce all that is recorded so far.

        Starts at the last checkpoint before, and if that does not reproduce it, at the beginning. Raises RecordError.
        """
        side = self.side()
        checkpoint = checkpoint_before(side, number)
        # A step comes before the line of its epoch.
        last = number if window.step is None else number - 1
        reason = ""
        for start in [None] if checkpoint is None else [checkpoint, None]:
            begun = "the beginning" if start is None else start.run.checkpoint
            log_progress(f"training {self.challenge.run} again, from {begun}")
            try:
                # The traced run is large, and no run of the user's.
                with tempfile.TemporaryDirectory(prefix="samebits-challenge-") as scratch:
                    traced = train_traced(side, start, window, Path(scratch))
                    require_reproduced(side.run, traced, last)
                    return collect(_steps(traced[0], window))
            except SamebitsError as error:
                reason = str(error)
        run = self.challenge.run
        raise RecordError(
            f"{run} cannot reproduce its own record: {reason}; `samebits verify {run} --locate` finds where it differs,"
            " and `samebits check SCRIPT --run` what causes it"
        )


def _side(run: RunDir, record: Record, request: RerunRequest) -> Side:
    """How our run is trained again; raises RecordError where this host cannot."""
    report = preflight_for(run, request)
    if reasons := report.reasons(DOCUMENTED):
        raise InputError(f"{record.id} cannot be trained again here: {'; '.join(reasons)}")
    return Side(run=(run, record), train=retrainer(report))


def _differing_step(own: TracedEpoch, theirs: TracedEpoch) -> PlacedDigest | None:
    """Our first step that differs; None if there is none, or if our steps have ended there."""
    index = first_difference(own.steps, theirs.steps)
    return None if index is None or index >= len(own.steps) else own.steps[index]


def _collect(
    lines: Iterator[dict[str, Any]], theirs: TracedEpoch | None, keep: PlacedDigest | None = None
) -> TracedEpoch:
    """The digests of steps, and the line of the first that differs from theirs, or of the one to `keep`.

    Lines are digested as they are read: an epoch with all its tensors may not fit into memory.
    """
    steps: list[PlacedDigest] = []
    kept = None
    for values in lines:
        step = PlacedDigest.of_line(values)
        if keep is not None and step != keep:
            raise SamebitsError(f"step {keep.step}, trained again, is another")
        differs = theirs is not None and theirs.steps[len(steps) : len(steps) + 1] != (step,)
        if kept is None and (differs or keep is not None):
            kept = values
        steps.append(step)
    if not steps:
        raise SamebitsError("trained again, it has no line for a step there")
    return TracedEpoch(steps=tuple(steps), line=kept)


def _steps(run: RunDir, window: Trace) -> Iterator[dict[str, Any]]:
    """The lines of the traced steps."""
    for line in read_lines(run, steps=True):
        values = line_values(run, line) or {}
        place = values.get("event"), values.get("fit"), values.get("epoch")
        if place == (STEP, window.fit, window.epoch):
            yield values
