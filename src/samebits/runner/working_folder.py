"""The folder in which the script runs: a copy of its code. What the script adds to it becomes output files.

Many scripts write where they stand: `ModelCheckpoint("best.keras")`, `CSVLogger("log.csv")`. The recorded code itself
stays as it is, so a run can be verified and resumed from it.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from samebits.core.code_tree import is_cache
from samebits.core.deep_folders import remove_tree
from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError, shorten
from samebits.core.file_tree import read_manifest
from samebits.core.jsonio import storage_error
from samebits.core.run_dir import RunDir
from samebits.runner.checkpoint.files.output_files import flush_files

_SECONDS_BETWEEN_CHECKS = 5.0

Mark = tuple[int, int, int, int]


class WorkingFolder:
    """The working folder of one run. Files that were there from the start are the script's code, or its inputs."""

    def __init__(self, folder: RunDir, is_input: Callable[[Path], bool] = lambda _: False) -> None:
        self._folder = folder
        self._is_input = is_input
        entries = read_manifest(folder.code_manifest).entries
        self._folders = [entry.path for entry in entries if entry.digest is None]
        self._code = {entry.path: entry.digest for entry in entries if entry.digest is not None}
        self._marks: dict[str, Mark] = {}
        self._checked = 0.0
        self.changed = False

    def is_code(self, path: str) -> bool:
        """Whether a path belongs to a file of the code, or to a cache of Python."""
        return path in self._code or is_cache(path)

    def make(self) -> None:
        """Copy the code into the folder. Raises StorageError, or InputError where a copy is not the recorded file."""
        work, code = self._folder.work, self._folder.code
        try:
            work.mkdir()
            for path in (*self._folders, *self._code):
                (work / path if path.endswith("/") else (work / path).parent).mkdir(parents=True, exist_ok=True)
            for path in self._code:
                shutil.copy2(code / path, work / path)
            # Last, since each copy changes the times of its folder.
            for made in sorted((path for path in work.rglob("*") if path.is_dir()), reverse=True):
                shutil.copystat(code / made.relative_to(work), made)
            shutil.copystat(code, work)
        except OSError as error:
            raise storage_error(error, work) from error
        self._marks = {path: mark for path in self._code if (mark := _mark(work / path)) is not None}
        if changed := [path for path in self._code if not self._is_as_recorded(path)]:
            raise InputError(f"code changed before it ran: {shorten(changed, 3)}; run again")

    def check(self, *, thorough: bool = False) -> None:
        """Raise InputError if the script changed or removed a file of its code.

        A file is read again if its size, times or inode changed; all files are if the check is `thorough`.
        """
        self._checked, changed = time.monotonic(), []
        for path in self._code:
            mark = _mark(self._folder.work / path)
            if thorough or mark != self._marks.get(path):
                if not self._is_as_recorded(path):
                    changed.append(path)
                elif mark is not None:
                    self._marks[path] = mark
        if changed:
            self.changed = True
            raise InputError(
                f"the script changed files that were in its folder: {shorten(changed, 3)}; the result does not belong"
                " to the recipe; leave such files out with --exclude, and run again"
            )

    def check_now_and_then(self) -> None:
        """Check, unless that was done in the last seconds."""
        if time.monotonic() - self._checked > _SECONDS_BETWEEN_CHECKS:
            self.check()

    def collect(self) -> None:
        """Move everything that the script added or changed to the output files, and remove the folder.

        A file whose name is taken there goes into a folder `work` instead. Raises StorageError.
        """
        if not self._folder.work.is_dir():
            return
        flush_files(self._folder.work, self._folder.outputs)
        try:
            for path, relative in _files(self._folder.work):
                if not (is_cache(relative) or self._is_as_recorded(relative) or self._is_input(path)):
                    _move(path, self._folder.work, self._folder.outputs)
            remove_tree(self._folder.work)
        except OSError as error:
            raise storage_error(error, self._folder.outputs) from error

    def _is_as_recorded(self, path: str) -> bool:
        at = self._folder.work / path
        if path not in self._code or at.is_symlink() or not at.is_file():
            return False
        try:
            return Digest.of_file(at) == self._code[path]
        except (OSError, RecordError):
            return False


def _mark(path: Path) -> Mark | None:
    """What changes when a file is written: size, times, inode; None where there is no file."""
    try:
        found = path.lstat()
    except OSError:
        return None
    # The change time cannot be set by the script, unlike the modification time.
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Everything but folders, sorted, with its path in `folder`. Links are not followed."""
    found, waiting = [], [os.fspath(folder)]
    # Not `os.walk`, which calls itself for each level.
    while waiting:
        with os.scandir(waiting.pop()) as listing:
            for child in listing:
                if child.is_dir(follow_symlinks=False):
                    waiting.append(child.path)
                else:
                    found.append(Path(child.path))
    for path in sorted(found):
        yield path, str(path.relative_to(folder))


def _move(path: Path, folder: Path, outputs: Path) -> None:
    target = _free_name(outputs, path.relative_to(folder))
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        leads = os.readlink(path)
        # An absolute link into this folder would lead nowhere once the folder is gone.
        if Path(leads).is_relative_to(folder):
            leads = os.path.relpath(leads, path.parent)
        target.symlink_to(leads)
        path.unlink()
    else:
        os.rename(path, target)


def _free_name(outputs: Path, relative: Path) -> Path:
    """Where a file goes: its own path, behind as many folders `work` as it takes to be free."""
    while os.path.lexists(outputs / relative) or any(
        (outputs / parent).is_symlink() or (os.path.lexists(outputs / parent) and not (outputs / parent).is_dir())
        for parent in relative.parents
    ):
        relative = Path("work", relative)
    return outputs / relative
