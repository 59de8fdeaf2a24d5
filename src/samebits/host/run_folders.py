"""The folders in which this machine has trained: each is noted in the cache, so that `gc` can ask all of their runs."""

import os
from contextlib import suppress
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import StorageError
from samebits.host.cache_dir import cache_folder


def note_folder(runs: Path) -> None:
    """Note a folder of runs. It costs no sync, and a run never fails for it."""
    # RuntimeError: this user has no home.
    with suppress(OSError, StorageError, RuntimeError, ValueError):
        folder = os.path.realpath(runs)
        # A link is made at once or not at all, also by two runs at a time; that it exists is the note.
        os.symlink(folder, cache_folder("folders") / Digest.of_bytes(os.fsencode(folder)).hex)


def noted_folders() -> set[Path]:
    """All noted folders, also those that are gone."""
    found = set()
    for note in cache_folder("folders").iterdir():
        with suppress(OSError):
            found.add(Path(os.readlink(note)))
    return found
