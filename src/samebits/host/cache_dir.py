"""Where samebits keeps what it can make again: wheels, virtual environments, facts about images and this machine."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samebits.core.jsonio import storage_error


def cache_folder(name: str) -> Path:
    """A folder of the cache: `$SAMEBITS_CACHE`, else `$XDG_CACHE_HOME/samebits`, else `~/.cache/samebits`."""
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
    """Only one process at a time makes `name` in `folder`; the others wait and find it made."""
    lock = folder / f".{name}.lock"
    try:
        file = lock.open("w")
    except OSError as error:
        raise storage_error(error, lock) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
