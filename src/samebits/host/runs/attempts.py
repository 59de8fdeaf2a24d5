"""Runs that were begun for one purpose, each an attempt to train the same recipe: a job's, or a sweep's member.

A file for each names it. Whoever continues after a kill finds the runs by these names, whatever else was lost.
"""

from pathlib import Path

from samebits.core.record import FAILED, FINISHED, Record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_names

_FOLDER = "attempts"


def make_attempts(folder: Path) -> None:
    """Create what holds the names."""
    (folder / _FOLDER).mkdir()


def attempts_of(folder: Path, runs: Path, number: int = 0) -> list[RunDir]:
    """The runs that were begun for a member, oldest first."""
    beginning = f"{number:05}-"
    names = sorted(name for name in plain_names(folder / _FOLDER) if name.startswith(beginning))
    return [RunDir(runs / name.removeprefix(beginning)) for name in names]


def note_attempt(folder: Path, run: RunDir, number: int = 0) -> None:
    """Note that a run was begun for a member."""
    (folder / _FOLDER / f"{number:05}-{run.path.name}").touch()


def is_settled(record: Record) -> bool:
    """Whether training again could change nothing: the run finished, or its script failed by itself."""
    failed = record.outcome.state == FAILED and record.outcome.exit_status is not None
    return record.outcome.state == FINISHED or failed
