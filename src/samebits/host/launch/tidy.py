"""What a container has left in a run's folder: no right that its files give survives on the host."""

import os
import stat
from pathlib import Path

_RIGHTS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


def take_rights(folder: Path) -> None:
    """Take set-user and set-group bits from all files and folders, and give their owner all folders. Never raises."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            _make_open(here)
            with os.scandir(here) as listing:
                for child in listing:
                    at = child.stat(follow_symlinks=False)
                    if stat.S_ISDIR(at.st_mode):
                        waiting.append(Path(child.path))
                    elif stat.S_ISREG(at.st_mode) and at.st_mode & _RIGHTS:
                        _change(Path(child.path), at.st_mode & 0o777)
        except OSError:  # someone else's: it gives no right of ours
            continue


def _make_open(folder: Path) -> None:
    mode = os.lstat(folder).st_mode
    wanted = stat.S_IMODE(mode) & 0o777 | stat.S_IRWXU
    if stat.S_ISDIR(mode) and stat.S_IMODE(mode) != wanted:
        _change(folder, wanted)


def _change(path: Path, mode: int) -> None:
    """Change a mode, never behind a link."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)
