"""Where this machine has trained, as noted in the cache, where no run can write.

Folders of runs are noted, so that `gc` can ask all of their runs. Runs are noted, so that one that came from elsewhere
is not taken for one of the user's own.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import RecordError, StorageError
from samebits.core.record import read_record
from samebits.core.run_dir import RunDir
from samebits.host.cache_dir import cache_folder


def note_folder(runs: Path) -> None:
    """Note a folder of runs. It costs no sync, and a run never fails for it."""
    # RuntimeError: this user has no home.
    with suppress(OSError, StorageError, RuntimeError, ValueError):
        # A link is made at once or not at all, also by two runs at a time; that it exists is the note.
        os.symlink(os.path.realpath(runs), _note("folders", runs))


def noted_folders() -> set[Path]:
    """All noted folders, also those that are gone."""
    found = set()
    for note in cache_folder("folders").iterdir():
        with suppress(OSError):
            found.add(Path(os.readlink(note)))
    return found


def note_run(run: RunDir) -> None:
    """Note that this user begins a run on this machine. Without the note it resumes from fewer checkpoints."""
    with suppress(OSError, RecordError):
        note_begun(run.path, _facts(run))


def note_begun(folder: Path, facts: Sequence[str]) -> None:
    """Note that this user begins on this machine what lies in a folder, as some facts describe it."""
    with suppress(OSError, StorageError, RuntimeError, ValueError):
        note = _note("begun", folder)
        note.unlink(missing_ok=True)
        os.symlink(_identity(folder, facts), note)


def forget_run(run: RunDir) -> None:
    """Remove the note of a run that is gone."""
    with suppress(OSError, StorageError, RuntimeError, ValueError):
        _note("begun", run.path).unlink(missing_ok=True)


def was_begun_here(run: RunDir) -> bool:
    """Whether this user has begun a run on this machine, in the very folder where it is now."""
    try:
        return is_noted(run.path, _facts(run))
    except (OSError, RecordError):
        return False


def is_noted(folder: Path, facts: Sequence[str]) -> bool:
    """Whether `note_begun` was called for a folder, which is still the same, with these facts."""
    try:
        return os.readlink(_note("begun", folder)) == _identity(folder, facts)
    except (OSError, StorageError, RuntimeError, ValueError):
        return False


def _note(kind: str, folder: Path) -> Path:
    return cache_folder(kind) / Digest.of_bytes(os.fsencode(os.path.realpath(folder))).hex


def _facts(run: RunDir) -> list[str]:
    """What began there, and when."""
    record = read_record(run.record)
    return [record.id, record.started, str(record.recipe.digest)]


def _identity(folder: Path, facts: Sequence[str]) -> str:
    """What a folder that takes the place of another has not: the inode, and a digest of what it holds."""
    return f"{os.lstat(folder).st_ino} {Digest.of_json(list(facts))}"
