"""Remove whole runs, and say what each one takes."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samebits.core.deep_folders import remove_tree
from samebits.core.errors import InputError, RecordError, shorten
from samebits.core.jsonio import storage_error
from samebits.core.record import RUNNING
from samebits.core.record_summary import RecordSummary, read_summary
from samebits.core.run_dir import RunDir
from samebits.host.cleanup.item import disk_size
from samebits.host.run_folders import forget_run
from samebits.host.runs.registry import run_dirs
from samebits.host.sweep.sweep_file import SweepDir, read_sweep, sweeps_of

_GONE = ".removed-"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSize:
    """What a run takes on the disk: all of it, and its checkpoints."""

    run: RunDir
    size: int
    checkpoints: int


def run_sizes(runs: Path) -> list[RunSize]:
    """All runs of a folder, the largest first."""
    sizes = [
        RunSize(run=run, size=disk_size(run.path), checkpoints=disk_size(run.checkpoints.folder))
        for run in run_dirs(runs)
    ]
    return sorted(sizes, key=lambda item: (-item.size, item.run.path.name))


def leftovers(runs: Path) -> list[Path]:
    """What interrupted removals left in a folder of runs."""
    return sorted(runs.glob(f"{_GONE}*")) if runs.is_dir() else []


def refuse_needed(chosen: Sequence[RunDir]) -> None:
    """Raise InputError for a run that is not known to have ended, or that a kept run or a sweep needs."""
    for run in chosen:
        if run.read_summary().outcome.state == RUNNING:
            raise InputError(f"{run.path.name} is running, or cannot be seen from here; stop it, or add --force")
        if resumed := _resumed_by(run, {other.path.resolve() for other in chosen}):
            names = shorten(resumed, 3)
            raise InputError(f"{run.path.name} is resumed by {names}; remove that, too, or add --force")
        if sweeps := _sweeps_with(run):
            names = shorten(sweeps, 3)
            raise InputError(f"{run.path.name} is a run of {names}, which needs it to be verified; add --force")


def require_run(run: RunDir) -> None:
    """Raise InputError for a folder that cannot be removed as a run: a link, or one whose record is none of ours."""
    if run.path.is_symlink() or run.record.is_symlink():
        raise InputError(f"{run.path} is a link, or its record is; remove it yourself")
    here = Path.cwd().resolve()
    if here == run.path.resolve() or run.path.resolve() in here.parents:
        raise InputError(f"{run.path.resolve()} is the current folder, or around it; change to another one first")
    try:
        read_summary(run.record)
    except RecordError as error:
        raise InputError(f"{error}; nothing was removed, as {run.path} may be no run; remove it yourself") from error


def remove_run(run: RunDir) -> None:
    """Remove a run, the verdicts of its segments, and the note that it began here. Raises StorageError.

    The run loses its name first.
    """
    for folder in (run.path, *_segments(run)):
        remove_folder(folder)
    forget_run(run)


def _segments(run: RunDir) -> list[Path]:
    """The folders with verdicts on its segments, which hold no run."""
    found = run.path.absolute().parent.glob(f"{glob.escape(run.path.name)}-segments*")
    return [path for path in found if path.is_dir() and not path.is_symlink() and not RunDir(path).record.exists()]


def remove_folder(folder: Path) -> None:
    """Remove a folder, so that no other command ever sees half of it. Raises StorageError."""
    gone = folder if folder.name.startswith(_GONE) else folder.with_name(f"{_GONE}{folder.name}-{os.getpid()}")
    try:
        if gone != folder:
            folder.rename(gone)
        remove_tree(gone)
    except OSError as error:
        raise storage_error(error, folder) from error


def _resumed_by(run: RunDir, besides: set[Path]) -> list[str]:
    """The runs beside it that resume it."""
    identifier = _summary(run)
    others = (other for other in run_dirs(run.path.absolute().parent) if other.path.resolve() not in besides)
    found = ((other.path.name, _summary(other)) for other in others)
    return [name for name, other in found if other and identifier and other.resumes == identifier.id]


def _sweeps_with(run: RunDir) -> list[str]:
    """The sweeps that name it."""
    found = sweeps_of(run.path.absolute().parent)
    return [sweep.path.name for sweep in found if run.path.name in _members(sweep)]


def _members(sweep: SweepDir) -> set[str]:
    """The runs of a sweep; without a summary yet, those that it began."""
    try:
        found = read_sweep(sweep)
        if found.finalized:
            return {run.id for run in found.runs if run.id is not None}
        return {run.path.name for number in range(len(found.runs)) for run in sweep.attempts(number)}
    except (RecordError, OSError):
        return set()


def _summary(run: RunDir) -> RecordSummary | None:
    try:
        return read_summary(run.record)
    except RecordError:
        return None
