"""Which sweep a command continues: an unfinished one of the same recipes; or why it begins another one."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import RecordError, shorten
from samebits.core.recipe import differing_parts
from samebits.core.run_setup import PlannedRun
from samebits.host.console import log
from samebits.host.run_folders import is_noted
from samebits.host.sweep.members import Member
from samebits.host.sweep.sweep_file import Sweep, SweepDir, read_sweep, sweeps_of

_OF_MEMBERS = {"seed", "code.arguments"}
"""What differs between the runs of one sweep."""


Unfinished = Sequence[tuple[SweepDir, Sweep]]


def unfinished_sweeps(runs: Path) -> Unfinished:
    """The sweeps that have no summary yet, the youngest first."""
    read = ((folder, _readable(folder)) for folder in reversed(sweeps_of(runs)))
    return [(folder, found) for folder, found in read if found is not None and not found.finalized]


def continued(sweeps: Unfinished, members: Sequence[Member], plans: Sequence[PlannedRun]) -> SweepDir | None:
    """The sweep of just these recipes, if this user began it."""
    wanted = [_facts(member, plan.recipe.digest) for member, plan in zip(members, plans, strict=True)]
    for folder, found in sweeps:
        if [_facts(run.member, run.recipe) for run in found.runs] != wanted:
            continue
        if is_noted(folder.path, plan_of(found)):
            return folder
        # Its runs would count as trained here, and its copy of the code would be trained.
        log(f"a sweep is passed over: {found.id} was not begun here by you, or is in another folder now")
    return None


def plan_of(sweep: Sweep) -> list[str]:
    """What a sweep trains, and when it began: the same until its end."""
    return [sweep.id, sweep.started, *(str(run.recipe) for run in sweep.runs)]


def _facts(member: Member, recipe: Digest) -> tuple[int, dict[str, str], Digest]:
    # The file holds the arguments of a grid sorted by name. Their order on the command line is in the recipe.
    return member.seed, dict(member.grid), recipe


def explain_beginning(
    sweeps: Unfinished, planned: PlannedRun, plans: Sequence[PlannedRun], report: Callable[[str], object]
) -> None:
    """Report why the last unfinished sweep of this script is not the one that is continued."""
    for folder, found in sweeps:
        if found.script != planned.spec.code.entry:
            continue
        reason = "other seeds, or another grid"
        begun = [run for number in range(len(found.runs)) for run in folder.attempts(number)]
        with suppress(RecordError):
            mine = plans[0].recipe
            parts = [] if not begun else differing_parts(begun[0].read().recipe, mine)
            of_all = [part for part in parts if part not in _OF_MEMBERS]
            reason = shorten(of_all, 4) if of_all else reason
        report(f"this is another sweep than the unfinished {found.id}: {reason}")
        return


def _readable(folder: SweepDir) -> Sweep | None:
    """A sweep; None, and a line about it, where its file is damaged: that keeps no other one from being trained."""
    try:
        return read_sweep(folder)
    except RecordError as error:
        log(f"a sweep is passed over: {error}")
        return None
