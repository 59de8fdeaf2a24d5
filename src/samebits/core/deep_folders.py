"""Folders that may be nested more deeply than Python's own functions reach, or paths: a script makes what it likes.

`shutil.rmtree` and `os.walk` call themselves for each level, and a path has 4,096 bytes. Everything here is opened by
one name after the other, and no link is followed.
"""

import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_READABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Visit = Callable[[str, os.stat_result], object]
"""Called with a path of an entry, which is short and lasts for the call, and with what the entry is."""


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that it holds; raises OSError."""
    here = os.open(folder, _READABLE)
    try:
        # What is deep is moved up, so that nothing is ever more than two levels down.
        new_names = (f".{secrets.token_hex(8)}-{number}" for number in itertools.count())
        while names := _without_files(here):
            for name in names:
                _empty(name, here, new_names)
    finally:
        os.close(here)
    os.rmdir(folder)


def _empty(name: str, here: int, new_names: Iterator[str]) -> None:
    """Remove a folder in another one, whose own folders move up there."""
    inner = os.open(name, _READABLE, dir_fd=here)
    try:
        for child in _without_files(inner):
            os.rename(child, next(new_names), src_dir_fd=inner, dst_dir_fd=here)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=here)


def _without_files(here: int) -> list[str]:
    """Remove what is no folder; returns the names of the folders."""
    folders = []
    with os.scandir(here) as listing:
        for child in listing:
            if child.is_dir(follow_symlinks=False):
                folders.append(child.name)
            else:
                os.unlink(child.name, dir_fd=here)
    return folders


def visit_all(folder: Path, visit: Visit) -> None:
    """Call `visit` for all that a folder holds, for a folder before it is opened; what cannot be read is left out."""
    with suppress(OSError):
        here = os.open(folder, _READABLE)
        try:
            here = _visit_below(here, visit)
        finally:
            os.close(here)


def _visit_below(here: int, visit: Visit) -> int:
    """Go down and up again by one folder at a time; returns the descriptor of the folder where it ends."""
    # For each folder on the way: the names of those in it that are not visited yet.
    waiting = [_visited(here, visit)]
    while waiting:
        if waiting[-1]:
            inner = _opened(waiting[-1].pop(), here)
            if inner is None:
                continue
            os.close(here)
            here = inner
            waiting.append(_visited(here, visit))
        elif waiting.pop() is not None and waiting:
            above = _opened("..", here)
            if above is None:  # somebody else's folder: it cannot be left again
                break
            os.close(here)
            here = above
    return here


def _opened(name: str, here: int) -> int | None:
    try:
        return os.open(name, _READABLE, dir_fd=here)
    except OSError:
        return None


def _visited(here: int, visit: Visit) -> list[str]:
    """Visit what is in one folder; returns the names of its folders."""
    folders = []
    with suppress(OSError), os.scandir(here) as listing:
        for child in listing:
            with suppress(OSError):
                at = child.stat(follow_symlinks=False)
                visit(f"/proc/self/fd/{here}/{child.name}", at)
                folders += [child.name] if stat.S_ISDIR(at.st_mode) else []
    return folders
