"""What a container has left in a run's folder: it belongs to the folder's owner, and gives nobody else a right."""

import os
import stat
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from samebits.core.deep_folders import visit_all
from samebits.core.run_files import read_plain

_KEPT = 0o755
"""No set-user, set-group and sticky bits, and nobody else may write."""

_MOST_BYTES = 64 << 20

_OWN = {stat.S_IFDIR: stat.S_IRWXU, stat.S_IFREG: stat.S_IRUSR}
"""What the owner may always do: look into folders, and read files. A finalized file stays closed to writing."""


def take_rights(folder: Path) -> None:
    """Give all files and folders to the owner of the run's folder, and take what others could do. Never raises."""
    owner = _owner(folder)
    with suppress(OSError):
        _normalize(folder, os.lstat(folder), owner)
    # What is someone else's gives no right of ours.
    visit_all(folder, lambda path, at: _normalize(Path(path), at, owner))


def _owner(folder: Path) -> tuple[int, int] | None:
    """Who owns the run; None where we may give nothing away."""
    with suppress(OSError):
        at = os.lstat(folder)
        return (at.st_uid, at.st_gid) if os.geteuid() == 0 else None
    return None


def _normalize(path: Path, at: os.stat_result, owner: tuple[int, int] | None) -> None:
    with suppress(OSError):
        if owner is not None and at.st_uid != owner[0]:
            os.chown(path, *owner, follow_symlinks=False)
        own = _OWN.get(stat.S_IFMT(at.st_mode))
        # A pipe or a link gives no right.
        if own is not None and (mode := stat.S_IMODE(at.st_mode)) != (wanted := mode & _KEPT | own):
            _change(path, wanted)


def _change(path: Path, mode: int) -> None:
    """Change a mode, never behind a link."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)


def files_that_hold(folder: Path, values: Collection[str]) -> list[str]:
    """The files of a run in which one of some texts can be read, by their paths; large ones are not looked at."""
    wanted, found, waiting = [value.encode() for value in values], [], [folder] if values else []
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as listing:
            for child in listing:
                path = Path(child.path)
                if child.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif _holds(path, folder, wanted):
                    found.append(str(path.relative_to(folder)))
    return sorted(found)


def _holds(path: Path, folder: Path, wanted: Sequence[bytes]) -> bool:
    try:
        content = read_plain(path, _MOST_BYTES, folder)
    except OSError:  # it vanished, nobody can read it, or it is no regular file
        return False
    return any(value in content for value in wanted)
