"""`samebits challenge`: two parties find where their runs of one recipe diverge, and exchange digests alone.

As in refereed delegation, each exchange is finer: lines of the ledgers, then the steps of the first epoch that differs,
then the tensors of the first step that differs. Each party trains its own run again, that epoch only. It gives no trace
that does not reproduce its record.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samebits.core.errors import EXIT_DIFFERENT, EXIT_OK, InputError, RecordError, shorten
from samebits.core.jsonio import reading
from samebits.core.run_dir import RunDir
from samebits.host.compare.ledger_diff import Divergence
from samebits.host.compare.verdict import DIFFERENT, IDENTICAL
from samebits.host.console import print_line
from samebits.host.rerun.causes import Cause, causes_in
from samebits.host.rerun.challenge_file import (
    Challenge,
    PlacedDigest,
    TracedEpoch,
    first_difference,
    read_challenge,
    write_challenge,
)
from samebits.host.rerun.challenge_party import Party
from samebits.host.rerun.divergence import AGREED, NO_STEP, DivergenceLocation
from samebits.host.rerun.request import RerunRequest


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


def exchange(party: Party, file: Path, against: Path | None) -> Exchange:
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
        index = first_difference(own.ledger, theirs.ledger)
    if index is None:
        found = _agreed(own, theirs, file)
    elif reason := _why_no_step(own.ledger, theirs.ledger, index):
        place = (own.ledger[index:] or theirs.ledger[index:])[0]
        found = _at(place, file, line=party.line(index), note=reason, final=True)
    else:
        place = own.ledger[index]
        with reading(against):
            _require_place(theirs, own, place)
        traced = party.traced(index, own.traced, theirs.traced)
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
        raise RecordError(f"its steps are not of {place.where}, in which the ledgers diverge")
    if own.traced is not None:
        first_difference(own.traced.steps, theirs.traced.steps)


def _why_no_step(ours: Sequence[PlacedDigest], theirs: Sequence[PlacedDigest], index: int) -> str:
    """Why no step is looked for at the first line that differs; empty if it is the same epoch of both."""
    at = [ledger[index] for ledger in (ours, theirs) if index < len(ledger)]
    if len(at) == 1:
        return "one of the two runs has ended there"
    if (at[0].fit, at[0].epoch) != (at[1].fit, at[1].epoch):
        return f"the other run has {at[1].where or 'no epoch of fit'} there"
    # A loop of the script's own has no epochs to trace.
    return "" if None not in (at[0].fit, at[0].epoch) else "it is no epoch of fit, so no step is looked for"


def _agreed(own: Challenge, theirs: Challenge, file: Path) -> Exchange:
    """No line of the ledgers differs."""
    if own.result == theirs.result:
        return Exchange(file=file, verdict=IDENTICAL, final=True)
    return Exchange(file=file, verdict=DIFFERENT, location=DivergenceLocation(note=AGREED), final=True)


def _compare_steps(own: TracedEpoch, theirs: TracedEpoch | None, place: PlacedDigest, file: Path) -> Exchange:
    """What the steps of both reveal, as far as the other party gave them; raises RecordError for another line."""
    if theirs is None:
        return _at(place, file, note=f"send {file}, to find the step")
    index = first_difference(own.steps, theirs.steps)
    if index is None:
        return _at(place, file, note=f"no step differs: {NO_STEP}", final=True)
    pair = [steps[index] for steps in (own.steps, theirs.steps) if index < len(steps)]
    if len(pair) == 1 or pair[0].step != pair[1].step:
        return _at(pair[0], file, note="one of the two epochs has no such step", final=True)
    if theirs.line is not None and theirs.line.get("step") != pair[1].step:
        raise RecordError(f"its tensors are not of {pair[0].where}, the first step that differs")
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
    where = place.where or f"line {line}"
    location = DivergenceLocation(
        where=where, fit=place.fit, epoch=place.epoch, step=place.step, causes=causes, note=note
    )
    return Exchange(file=file, verdict=DIFFERENT, location=location, final=final)
