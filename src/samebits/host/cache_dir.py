"""The cache of what can be made again: wheels, virtual environments, metadata of images, this machine's fingerprint."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samebits.core.errors import StorageError
from samebits.core.jsonio import storage_error
from samebits.core.run_files import read_plain

UNPACKED = "apptainer"
"""The folder of the images that Apptainer runs."""


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
        _check_parents(root)
        _make_private(root)
        folder.mkdir(exist_ok=True, mode=0o700)
        _make_private(folder)
    except OSError as error:
        raise storage_error(error, folder) from error
    return folder


def _check_parents(root: Path) -> None:
    """Raise StorageError where anybody may put another folder in the place of the cache."""
    for parent in Path(os.path.realpath(root)).parents:
        mode = os.stat(parent).st_mode
        # In a folder such as /tmp, only the owner may rename what is there.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise StorageError(f"anybody may replace the cache {root}, as {parent} is open to all; name another")


def _make_private(folder: Path) -> None:
    """Close the cache, which holds what is executed, to others; raises StorageError where it is another user's."""
    at = os.stat(folder)
    if at.st_uid != os.geteuid():
        raise StorageError(f"the cache {folder} belongs to another user; name your own with SAMEBITS_CACHE")
    if at.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        folder.chmod(0o700)


def read_own(path: Path, most: int = 1 << 20) -> bytes:
    """A file of the cache, of limited size; raises StorageError for one that someone else could have written."""
    content = read_plain(path, most)
    at = os.lstat(path)
    if at.st_uid != os.geteuid() or at.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StorageError(f"{path} can be written by others; remove it")
    return content


@contextmanager
def exclusive(folder: Path, name: str, *, using: bool = True) -> Iterator[None]:
    """Hold the lock for `folder/name`: one process makes it, the others wait and find it made.

    The time of the lock is that of the last use; who only removes the folder is not `using` it.
    """
    lock = folder / f".{name}.lock"
    try:
        file = lock.open("w" if using else "a")
    except OSError as error:
        raise storage_error(error, lock) from error
    # The kernel releases the lock when the file is closed, also if this process is killed.
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
