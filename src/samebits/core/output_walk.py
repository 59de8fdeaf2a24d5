"""The output files of a run, by a strict walk: what cannot be read, or leads out of the run, is an error.

A file that is skipped in silence could differ between two runs that are called identical.
"""

import fnmatch
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.recipe import SAVED_MODEL_FINGERPRINT
from samebits.core.run_files import MAX_DEPTH, MAX_FILES, file_kind, is_plain

_Found = TypeVar("_Found")
MAX_HOLES = 16 << 30
"""Bytes of all outputs together that take no room on the disk. A file of holes may be of any size, and is hashed."""

_LEAVE_OUT = "remove it, or leave it out with --ignore-output"


def list_outputs(folder: Path, ignore: tuple[str, ...]) -> tuple[list[tuple[str, Path]], tuple[str, ...]]:
    """Every file and link below `folder` as (relative path, path), and the paths of those left out, both sorted.

    `ignore` are patterns of paths. Raises InputError for a folder that cannot be read, and for anything else but files
    and links.
    """
    kept, left_out, holes = [], [], _Holes()
    for relative, path, at in sorted(_walk(folder), key=lambda item: item[0]):
        if is_ignored(relative, ignore, _beside(path)):
            left_out.append(relative)
            continue
        mode = at.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise InputError(f"outputs/{relative} is {file_kind(mode)}, which has no content to record; {_LEAVE_OUT}")
        holes.add(relative, at)
        kept.append((relative, Path(path)))
    return kept, tuple(left_out)


def walk_links(folder: Path, ignore: tuple[str, ...]) -> Iterator[tuple[str | None, Path]]:
    """Every link below `folder` that `ignore` does not leave out; for any other file None, so that a caller can count.

    Ends at what cannot be read.
    """
    with suppress(InputError):
        for relative, path, at in _walk(folder):
            counts = stat.S_ISLNK(at.st_mode) and not is_ignored(relative, ignore, _beside(path))
            yield relative if counts else None, Path(path)


def is_ignored(relative: str, ignore: tuple[str, ...], beside: Callable[[str], bool]) -> bool:
    """Whether the result leaves out an output. `beside` says whether its folder holds a file of that name."""
    patterns = (pattern for pattern in ignore if pattern != SAVED_MODEL_FINGERPRINT)
    return is_random(relative, ignore, beside) or any(fnmatch.fnmatchcase(relative, pattern) for pattern in patterns)


def is_random(relative: str, ignore: tuple[str, ...], beside: Callable[[str], bool]) -> bool:
    """Whether it is the random `fingerprint.pb` of a SavedModel, which belongs to a model all the same."""
    return (
        SAVED_MODEL_FINGERPRINT in ignore
        and relative.rpartition("/")[2] == "fingerprint.pb"
        and beside("saved_model.pb")
    )


def _beside(path: str) -> Callable[[str], bool]:
    folder = os.path.dirname(path)
    return lambda name: is_plain(Path(folder, name))


class _Holes:
    """Counts the bytes that would be hashed and that no disk holds; further names of one file add none."""

    def __init__(self) -> None:
        self._bytes = 0
        self._seen: set[tuple[int, int]] = set()

    def add(self, relative: str, at: os.stat_result) -> None:
        """Raises InputError for the file with which they become too many."""
        if (at.st_dev, at.st_ino) in self._seen:
            return
        self._seen.add((at.st_dev, at.st_ino))
        held = at.st_blocks * 512
        self._bytes += max(0, at.st_size - held)
        if self._bytes > MAX_HOLES:
            raise InputError(
                f"outputs/{relative} has {at.st_size} bytes, and {held} of them on the disk: more than"
                f" {MAX_HOLES >> 30} GiB of holes are not hashed; {_LEAVE_OUT}"
            )


class OncePerFile(Generic[_Found]):
    """Remembers what was read of a file, so that one with many names (hard links) is read once."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int, str], _Found] = {}

    def read(self, path: Path, how: str, read: Callable[[], _Found]) -> _Found:
        """What `read` finds; it is called once for a file and a way to read it. Raises OSError."""
        at = path.lstat()
        key = at.st_dev, at.st_ino, how
        if key not in self._found:
            self._found[key] = read()
        return self._found[key]


def _walk(folder: Path) -> Iterator[tuple[str, str, os.stat_result]]:
    """All names but folders: relative path, path, and what it is. A path need not be UTF-8, but the record is."""
    waiting, count = [os.fspath(folder)], 0
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as listing:
                children = [(child.path, child.stat(follow_symlinks=False)) for child in listing]
        except OSError as error:
            raise unreadable(_relative(here, folder), error) from error
        count += len(children)
        if count > MAX_FILES or here.count("/") - os.fspath(folder).count("/") > MAX_DEPTH:
            raise InputError(f"the outputs hold more than {MAX_FILES} files, or folders nested deeper than {MAX_DEPTH}")
        waiting += [path for path, at in children if stat.S_ISDIR(at.st_mode)]
        yield from ((_relative(path, folder), path, at) for path, at in children if not stat.S_ISDIR(at.st_mode))


def _relative(path: str, folder: Path) -> str:
    return os.fsencode(os.path.relpath(path, folder)).decode("utf-8", "backslashreplace")


def unreadable(relative: str, error: OSError) -> InputError:
    """Say that an output cannot be read."""
    return InputError(f"cannot read outputs/{relative}: {error.strerror}; have the script leave it readable")


def link_digest(path: Path, folder: Path, seen_as: Path | None = None) -> Digest:
    """The digest of where a link leads, relative to the outputs: an absolute target would contain the run's path.

    `seen_as` is the path of `folder` in the container that made the link.
    """
    return Digest.of_bytes(os.fsencode(_target(path, folder, seen_as or folder)))


def require_inside(relative: str, path: Path, folder: Path) -> None:
    """Raise InputError for a link that leads out of the run: nothing records what is there."""
    target = _target(path, folder, folder)
    if target.startswith("../..") or target == ".." or not _ends_inside(path, folder.parent):
        raise InputError(
            f"outputs/{relative} links out of the run, to {os.readlink(path)}: what it leads to is not recorded;"
            " write a copy, or leave it out with --ignore-output"
        )


def _ends_inside(path: Path, run: Path) -> bool:
    """Whether a link ends in the run when the links on its way are followed: `..` after a link goes up from its end."""
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(run), ""))


def _target(path: Path, folder: Path, seen_as: Path) -> str:
    target = Path(os.path.normpath(os.readlink(path)))
    if target.is_relative_to(seen_as):
        target = folder.absolute() / target.relative_to(seen_as)
    return os.path.relpath(path.parent / target, folder)
