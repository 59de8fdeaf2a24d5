"""Runs that were begun for one purpose, each an attempt to train the same recipe: a job's, or a sweep's member.

A file for each names it. Whoever continues after a kill finds the runs by these names, whatever else was lost.
"""

from pathlib import Path

from samebits.core.errors import RecordError
from samebits.core.record import FAILED, FINISHED, Record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_names, safe_path, touch_plain

_FOLDER = "attempts"


def make_attempts(folder: Path) -> None:
    """Create what holds the names."""
    (folder / _FOLDER).mkdir()


def attempts_of(folder: Path, runs: Path, number: int = 0) -> list[RunDir]:
    """The runs that were begun for a member, oldest first; raises RecordError."""
    beginning = f"{number:05}-"
    try:
        names = sorted(name for name in plain_names(folder / _FOLDER) if name.startswith(beginning))
    except OSError as error:
        raise RecordError(f"cannot read {folder / _FOLDER}: {error.strerror}") from error
    return [RunDir(runs / run_name(name.removeprefix(beginning))) for name in names]


def run_name(text: str) -> str:
    """The name of a run in the folder of runs; raises RecordError for what leads elsewhere."""
    if "/" in text:
        raise RecordError(f"{text!r} is no id of a run")
    return safe_path(text)


def note_attempt(folder: Path, run: RunDir, number: int = 0) -> None:
    """Note that a run was begun for a member."""
    touch_plain(folder / _FOLDER / f"{number:05}-{run.path.name}")


def is_settled(record: Record) -> bool:
    """Whether training again could change nothing: the run finished, or its script failed by itself."""
    failed = record.outcome.state == FAILED and record.outcome.exit_status is not None
    return record.outcome.state == FINISHED or failed
