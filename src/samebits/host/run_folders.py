"""Where this machine has trained, as noted in the cache, where no run can write.

Folders of runs are noted, so that `gc` can ask all of their runs. Runs are noted, so that one that came from elsewhere
is not taken for one of the user's own.
"""

import os
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
    with suppress(OSError, StorageError, RecordError, RuntimeError, ValueError):
        note = _note("begun", run.path)
        note.unlink(missing_ok=True)
        os.symlink(_identity(run), note)


def forget_run(run: RunDir) -> None:
    """Remove the note of a run that is gone."""
    with suppress(OSError, StorageError, RuntimeError, ValueError):
        _note("begun", run.path).unlink(missing_ok=True)


def was_begun_here(run: RunDir) -> bool:
    """Whether this user has begun a run on this machine, in the very folder where it is now."""
    try:
        return os.readlink(_note("begun", run.path)) == _identity(run)
    except (OSError, StorageError, RecordError, RuntimeError, ValueError):
        return False


def _note(kind: str, folder: Path) -> Path:
    return cache_folder(kind) / Digest.of_bytes(os.fsencode(os.path.realpath(folder))).hex


def _identity(run: RunDir) -> str:
    """What a folder that takes the place of a run's has not: the inode, and a digest of what began there and when."""
    record = read_record(run.record)
    return f"{os.lstat(run.path).st_ino} {Digest.of_json([record.id, record.started, str(record.recipe.digest)])}"
