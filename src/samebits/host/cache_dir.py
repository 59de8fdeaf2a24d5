"""The cache of what can be made again: wheels, virtual environments, metadata of images, this machine's fingerprint."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samebits.core.errors import StorageError
from samebits.core.jsonio import storage_error


def cache_folder(name: str) -> Path:
    """A folder of the cache, created if missing.

    The cache is `$SAMEBITS_CACHE`, else `$XDG_CACHE_HOME/samebits`, else `~/.cache/samebits`.
    """
    # The XDG specification treats an empty variable like a missing one.
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    root = Path(os.environ.get("SAMEBITS_CACHE") or f"{base}/samebits").expanduser()
    folder = root / name
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_private(root)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    return folder


def _make_private(root: Path) -> None:
    """Let nobody else write to the cache, which holds what is executed; raises StorageError for another's."""
    at = os.stat(root)
    if at.st_uid != os.geteuid():
        raise StorageError(f"the cache {root} belongs to another user; name your own with SAMEBITS_CACHE")
    if at.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        root.chmod(0o700)


@contextmanager
def exclusive(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock for `folder/name`: one process makes it, the others wait and find it made."""
    lock = folder / f".{name}.lock"
    try:
        file = lock.open("w")
    except OSError as error:
        raise storage_error(error, lock) from error
    # The kernel releases the lock when the file is closed, also if this process is killed.
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
