"""The cache of what can be made again: wheels, virtual environments, metadata of images, this machine's fingerprint."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    return folder


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
