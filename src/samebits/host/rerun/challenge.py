"""`samebits challenge`: two parties find where their runs of one recipe diverge, and exchange digests alone.

As in refereed delegation, each exchange is finer: lines of the ledgers, then the steps of the first epoch that differs,
then the tensors of the first step that differs. Each party trains its own run again, that epoch only. It gives no trace
that does not reproduce its record.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from samebits.core.digest import Digest
from samebits.core.errors import EXIT_DIFFERENT, EXIT_OK, InputError, RecordError, SamebitsError, shorten
from samebits.core.jsonio import reading
from samebits.core.record import FINISHED, INTERRUPTED, Record
from samebits.core.run_config import DOCUMENTED
from samebits.core.run_dir import RunDir
from samebits.core.trace_level import STEP, TENSOR, Trace
from samebits.core.workers import describe_workers
from samebits.host.compare.ledger_diff import Divergence, line_values, read_lines
from samebits.host.compare.verdict import DIFFERENT, IDENTICAL
from samebits.host.console import log_progress, print_line
from samebits.host.rerun.causes import Cause, causes_in
from samebits.host.rerun.challenge_file import (
    Challenge,
    PlacedDigest,
    TracedEpoch,
    read_challenge,
    write_challenge,
)
from samebits.host.rerun.divergence import (
    AGREED,
    NO_STEP,
    DivergenceLocation,
    Side,
    checkpoint_before,
    require_reproduced,
    train_traced,
)
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.verify import damages, preflight_for, retrainer
from samebits.host.runs.registry import checksum_of

_ENDED = "one of the two has no more lines"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """What one party knows after it wrote `file`. `location` is the place so far; None before the first answer.

    `final` is whether nothing finer can be found; `verdict` is *identical* or *different*, None before an answer.
    """

    file: Path
    verdict: str | None = None
    location: DivergenceLocation | None = None
    final: bool = False

    @property
    def exit_status(self) -> int:
        """As of `verify`: 1 for runs that differ."""
        return EXIT_DIFFERENT if self.verdict == DIFFERENT else EXIT_OK

    def to_dict(self) -> dict[str, Any]:
        """The form of `--json`."""
        location = None if self.location is None else self.location.to_dict()
        return {"file": str(self.file), "verdict": self.verdict, "location": location, "final": self.final}


def challenge(run: RunDir, file: Path, request: RerunRequest, against: Path | None = None) -> Exchange:
    """Write one party's file, in answer to the other's where there is one; see `exchange`."""
    return exchange(Party.of(run, request), file, against)


def exchange(party: "Party", file: Path, against: Path | None) -> Exchange:
    """Write a party's file, in answer to the other's.

    `file` is read first, if it exists: an exchange continues. Raises RecordError for an answer that contradicts itself
    or an earlier one, and where the run cannot reproduce its own record. Nothing is written then.
    """
    own = _continued(party.challenge, file)
    if against is None:
        write_challenge(file, own)
        return Exchange(file=file)
    theirs = read_challenge(against)
    with reading(against):
        _require_opponent(theirs, own)
        index = _first_difference(own.ledger, theirs.ledger)
    if index is None:
        found = _agreed(own, theirs, file)
    elif reason := _why_no_step(own.ledger, theirs.ledger, index):
        place = (own.ledger[index:] or theirs.ledger[index:])[0]
        found = _at(place, file, line=party.line(index), note=reason, final=True)
    else:
        place = own.ledger[index]
        with reading(against):
            _require_place(theirs, own, place)
        traced = _trace(party, index, own.traced, theirs.traced)
        with reading(against):
            found = _compare_steps(traced, theirs.traced, place, file)
        own = replace(own, traced=traced)
    write_challenge(file, replace(own, seen=theirs.given))
    return found


def print_exchange(found: Exchange) -> None:
    """Print what is known, and what comes next; the last line is the verdict, if there is one."""
    print_line(f"challenge {found.file}")
    if found.verdict is None:
        command = f"samebits challenge RUN FILE --against {found.file.name}"
        print_line(f"send {found.file}; the other party answers it: {command}")
    for line in found.location.lines() if found.location is not None else ():
        print_line(line)
    if found.verdict is not None:
        print_line(found.verdict)


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


def _side(run: RunDir, record: Record, request: RerunRequest) -> Side:
    """How our run is trained again; raises RecordError where this host cannot."""
    report = preflight_for(run, request)
    if reasons := report.reasons(DOCUMENTED):
        raise InputError(f"{record.id} cannot be trained again here: {'; '.join(reasons)}")
    return Side(run=(run, record), train=retrainer(report))


def _continued(fresh: Challenge, file: Path) -> Challenge:
    """Our file of earlier exchanges, or a new one; raises InputError for a file of something else."""
    if not file.exists():
        if not file.absolute().parent.is_dir():
            raise InputError(f"cannot write {file}: its folder does not exist")
        return fresh
    own = read_challenge(file)
    if own.record != fresh.record or own.ledger != fresh.ledger:
        raise InputError(f"{file} is of another run, {own.run}; name another file for {fresh.run}")
    return own


def _require_opponent(theirs: Challenge, own: Challenge) -> None:
    """Raise RecordError unless the other file is of another run of the same recipe, and as it was before."""
    if theirs.recipe != own.recipe:
        raise RecordError(
            f"it is of another recipe, {theirs.recipe.short}, and ours is {own.recipe.short}; where you have both runs,"
            " `samebits diff` names what differs"
        )
    if theirs.record == own.record:
        raise RecordError("it is of the same run; name the other party's file")
    if theirs.seen is not None and (theirs.seen.record, theirs.seen.ledger) != (own.given.record, own.given.ledger):
        raise RecordError("it answers another file than ours")
    theirs.require_as_seen(own.seen)


def _require_place(theirs: Challenge, own: Challenge, place: PlacedDigest) -> None:
    """Raise RecordError if the other party gives steps of another epoch than the one in which the ledgers diverge."""
    if theirs.traced is None:
        return
    if theirs.traced.place != (place.fit, place.epoch):
        raise RecordError(f"its steps are not of {_where(place)}, in which the ledgers diverge")
    if own.traced is not None:
        _first_difference(own.traced.steps, theirs.traced.steps)


def _first_difference(ours: Sequence[PlacedDigest], theirs: Sequence[PlacedDigest]) -> int | None:
    """The first index at which two lists differ; raises RecordError where a place of theirs contradicts its digest."""
    for index, (own, other) in enumerate(itertools.zip_longest(ours, theirs)):
        if own == other:
            continue
        # A digest covers its place.
        if own is not None and other is not None and own.digest == other.digest:
            places = [_where(place) or "another line" for place in (other, own)]
            raise RecordError(f"it gives {places[0]} for the digest of {places[1]}")
        return index
    return None


def _why_no_step(ours: Sequence[PlacedDigest], theirs: Sequence[PlacedDigest], index: int) -> str:
    """Why no step is looked for at the first line that differs; empty if it is the same epoch of both."""
    at = [ledger[index] for ledger in (ours, theirs) if index < len(ledger)]
    if len(at) == 1:
        return "one of the two runs has ended there"
    if (at[0].fit, at[0].epoch) != (at[1].fit, at[1].epoch):
        return f"the other run has {_where(at[1]) or 'no epoch of fit'} there"
    # A loop of the script's own has no epochs to trace.
    return "" if None not in (at[0].fit, at[0].epoch) else "it is no epoch of fit, so no step is looked for"


def _trace(party: Party, index: int, own: TracedEpoch | None, theirs: TracedEpoch | None) -> TracedEpoch:
    """The steps of the epoch, and once theirs are known, the tensors of the first that differs."""
    place, number = party.challenge.ledger[index], party.numbers[index]
    window = Trace(level=TENSOR, fit=place.fit, epoch=place.epoch)
    if own is None:
        return _train(party, window, number, lambda lines: _collect(lines, theirs))
    wanted = None if own.line is not None or theirs is None else _differing_step(own, theirs)
    if wanted is None:
        return own
    one = _train(party, replace(window, step=wanted.step), number, lambda lines: _collect(lines, None, keep=wanted))
    return replace(own, line=one.line)


def _differing_step(own: TracedEpoch, theirs: TracedEpoch) -> PlacedDigest | None:
    """Our first step that differs; None if there is none, or if our steps have ended there."""
    index = _first_difference(own.steps, theirs.steps)
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


def _train(
    party: Party, window: Trace, number: int, collect: Callable[[Iterator[dict[str, Any]]], TracedEpoch]
) -> TracedEpoch:
    """Train our run again to a window in the epoch of line `number`; it must reproduce all that is recorded so far.

    Starts at the last checkpoint before, and if that does not reproduce it, at the beginning. Raises RecordError.
    """
    side = party.side()
    checkpoint = checkpoint_before(side, number)
    # A step comes before the line of its epoch.
    last = number if window.step is None else number - 1
    reason = ""
    for start in [None] if checkpoint is None else [checkpoint, None]:
        begun = "the beginning" if start is None else start.run.checkpoint
        log_progress(f"training {party.challenge.run} again, from {begun}")
        try:
            # The traced run is large, and no run of the user's.
            with tempfile.TemporaryDirectory(prefix="samebits-challenge-") as scratch:
                traced = train_traced(side, start, window, Path(scratch))
                require_reproduced(side.run, traced, last)
                return collect(_steps(traced[0], window))
        except SamebitsError as error:
            reason = str(error)
    run = party.challenge.run
    raise RecordError(
        f"{run} cannot reproduce its own record: {reason}; `samebits verify {run} --locate` finds where it differs, and"
        " `samebits check SCRIPT --run` what causes it"
    )


def _steps(run: RunDir, window: Trace) -> Iterator[dict[str, Any]]:
    """The lines of the traced steps."""
    for line in read_lines(run, steps=True):
        values = line_values(run, line) or {}
        place = values.get("event"), values.get("fit"), values.get("epoch")
        if place == (STEP, window.fit, window.epoch):
            yield values


def _agreed(own: Challenge, theirs: Challenge, file: Path) -> Exchange:
    """No line of the ledgers differs."""
    if own.result == theirs.result:
        return Exchange(file=file, verdict=IDENTICAL, final=True)
    return Exchange(file=file, verdict=DIFFERENT, location=DivergenceLocation(note=AGREED), final=True)


def _compare_steps(own: TracedEpoch, theirs: TracedEpoch | None, place: PlacedDigest, file: Path) -> Exchange:
    """What the steps of both reveal, as far as the other party gave them; raises RecordError for another line."""
    if theirs is None:
        return _at(place, file, note=f"send {file}, to find the step")
    index = _first_difference(own.steps, theirs.steps)
    if index is None:
        return _at(place, file, note=f"no step differs: {NO_STEP}", final=True)
    pair = [steps[index] for steps in (own.steps, theirs.steps) if index < len(steps)]
    if len(pair) == 1 or pair[0].step != pair[1].step:
        return _at(pair[0], file, note="one of the two epochs has no such step", final=True)
    if theirs.line is not None and theirs.line.get("step") != pair[1].step:
        raise RecordError(f"its tensors are not of {_where(pair[0])}, the first step that differs")
    if own.line is None or theirs.line is None:
        return _at(pair[0], file, note=f"send {file}, to find the tensor")
    found = Divergence(number=index + 1, one=own.line, other=theirs.line)
    names = shorten([name for name, _, _ in found.differences()], 3)
    causes = tuple(causes_in(found))
    return _at(
        pair[0], file, causes=causes, note="" if causes else f"no tensor differs there, only {names}", final=True
    )


def _at(
    place: PlacedDigest,
    file: Path,
    *,
    line: int = 0,
    causes: tuple[Cause, ...] = (),
    note: str = "",
    final: bool = False,
) -> Exchange:
    """What is known: the runs differ, at this place, or else at this line."""
    where = _where(place) or f"line {line}"
    location = DivergenceLocation(
        where=where, fit=place.fit, epoch=place.epoch, step=place.step, causes=causes, note=note
    )
    return Exchange(file=file, verdict=DIFFERENT, location=location, final=final)


def _where(place: PlacedDigest) -> str:
    """The place in a message."""
    known = {"fit": place.fit, "epoch": place.epoch, "step": place.step}
    return ", ".join(f"{name} {number}" for name, number in known.items() if number is not None)
