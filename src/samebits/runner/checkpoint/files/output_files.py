"""Captures and restores the script's output files: files, links, and the write positions of open files.

They lie in the output folder, and beside the script's code in the working folder.
Output files belong to the result. A resumed script runs from its first line and may write some of them again. So all of
them are restored in place, as the script may have them open.
"""

import fnmatch
import gc
import io
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from samebits.core.checkpoint_store import CheckpointStore
from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.core.output_walk import is_random
from samebits.core.recipe import SAVED_MODEL_FINGERPRINT
from samebits.runner.checkpoint.state.encoding import UncapturableError

_TICK_NS = 50_000_000  # more than what a file system's times may lag behind


class OutputSnapshot:
    """Captures and restores one folder, apart from files that the result ignores, and paths that `leave_out` names.

    The random file of a SavedModel is captured all the same, as the model is. No comparison sees it, for it stands
    under `ignored`. A writer of TensorBoard is not captured: a resumed run writes to a file of another name.
    `announce` is called with the digest of each captured file, so that the store does not prune it. `removes` says
    whether to restore removes what the script made since.
    """

    def __init__(
        self,
        folder: Path,
        ignore: tuple[str, ...],
        store: CheckpointStore,
        announce: Callable[[str], None],
        *,
        leave_out: Callable[[str], bool] = lambda _: False,
        removes: bool = True,
    ) -> None:
        self._folder = folder
        self._ignore = tuple(pattern for pattern in ignore if pattern != SAVED_MODEL_FINGERPRINT)
        self._apart = tuple(pattern for pattern in ignore if pattern == SAVED_MODEL_FINGERPRINT)
        self._mapped: frozenset[int | str] | None = None
        self._store = store
        self._announce = announce
        self._leave_out = leave_out
        self._removes = removes
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}

    def capture(self) -> dict[str, Any]:
        """All folders, files and links by path. The bytes of files go to the store; the state has their digests."""
        flush_files(self._folder)
        self._mapped = None  # asked for at the first file: with TensorFlow it is long
        state: dict[str, Any] = {"folders": [], "files": [], "links": [], "open": [], "times": [], "ignored": []}
        for path, relative in self._paths():
            # Temporary files are others', too, such as the sockets of worker processes.
            if self._removes:
                self._check_plain(path, relative)
            # A link to a folder is a folder, too, so that links come first.
            if path.is_symlink():
                state["links"].append([relative, os.readlink(path)])
            elif path.is_dir():
                state["folders"].append(relative)
            elif path.is_file():
                kind = "ignored" if self._is_random(path, relative) else "files"
                with suppress(FileNotFoundError):  # a temporary file that was removed meanwhile
                    state[kind].append([relative, path.stat().st_mode & 0o7777, self._digest(path, relative)])
        # After the contents were read, which sets a time, too.
        for path, relative in [(self._folder, "."), *self._paths()]:
            with suppress(FileNotFoundError):
                state["times"].append([relative, *_times(path)])
        state["open"] = [[relative, os.lseek(number, 0, os.SEEK_CUR)] for number, relative in _open_files(self._folder)]
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the folder. Raises RecordError if the state is malformed, or names a path outside of it."""
        _check_rows(state)
        _check_inside(state)
        flush_files(self._folder)
        if self._removes:
            self._remove_others(state)
        for relative in state["folders"]:
            (self._folder / relative).mkdir(parents=True, exist_ok=True)
        for relative, target in state["links"]:
            with suppress(FileNotFoundError):
                (self._folder / relative).unlink()
            (self._folder / relative).symlink_to(target)
        for relative, mode, digest in (*state["files"], *state.get("ignored", [])):
            path = self._folder / relative
            # The file keeps its inode, as the script may have it open.
            with open(os.open(path, os.O_RDWR | os.O_CREAT, mode), "r+b") as file:
                file.truncate(0)
                file.write(self._store.content(Digest.parse(digest)))
            path.chmod(mode)
        self._restore_times(state.get("times", []))
        self._restore_positions(state["open"])

    def _restore_times(self, saved: list[list[Any]]) -> None:
        # In reverse order: to restore a path changes the times of its folder.
        for relative, mode, read, changed in reversed(saved):
            path = self._folder / relative
            if not os.path.lexists(path):
                continue
            if mode is not None and path.is_dir() and not path.is_symlink():
                path.chmod(mode)
            os.utime(path, ns=(read, changed), follow_symlinks=False)

    def _check_plain(self, path: Path, relative: str) -> None:
        """Raise UncapturableError for what a copy would lose."""
        with suppress(OSError):  # removed meanwhile, or a file system without attributes
            found = path.lstat()
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                raise UncapturableError(f"the output {relative} is neither file, folder nor link; write a file")
            if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                raise UncapturableError(f"the output file {relative} has another hard link; copy the file instead")
            if any(name.startswith("user.") for name in os.listxattr(path, follow_symlinks=False)):
                raise UncapturableError(f"the output {relative} has extended attributes; write them to a file")

    def _remove_others(self, state: dict[str, Any]) -> None:
        files = (*state["files"], *state.get("ignored", []), *state["links"])
        kept = {relative for relative, *_ in files} | set(state["folders"])
        # In reverse order, so that a folder is empty when its turn comes.
        for path, relative in sorted(self._paths(), reverse=True):
            if relative not in kept:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()

    def _restore_positions(self, saved: list[list[Any]]) -> None:
        # A file that is open more than once has one position for each time, in the order of descriptors.
        positions = list(saved)
        for number, relative in _open_files(self._folder):
            found = next((position for position in positions if position[0] == relative), None)
            if found is not None:
                positions.remove(found)
                os.lseek(number, found[1], os.SEEK_SET)

    def _paths(self) -> Iterator[tuple[Path, str]]:
        for path in sorted(self._folder.rglob("*")):
            relative = str(path.relative_to(self._folder))
            if not self._leave_out(relative) and not any(fnmatch.fnmatchcase(relative, p) for p in self._ignore):
                yield path, relative

    def _is_random(self, path: Path, relative: str) -> bool:
        return is_random(relative, self._apart, lambda name: path.with_name(name).is_file())

    def _digest(self, path: Path, relative: str) -> str:
        """The digest of a file; it is read again only if its size, times or inode changed, or if it is mapped."""
        # Before anything is read: what changes from now on must change a time.
        now, found = time.time_ns(), path.stat()
        # The change time cannot be set by the script, unlike the modification time.
        mark = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        known = self._known.pop(relative, None)
        # The first change of a page sets a time, and later ones do not.
        if self._mapped is None:
            self._mapped = mapped_files()
        is_mapped = not self._mapped.isdisjoint((found.st_ino, os.path.realpath(path)))
        if known is None or known[0] != mark or is_mapped:
            known = mark, str(self._store.store_file(path, self._announce))
            # A change in the same moment may leave the times as they are. Those in the future say nothing.
            if now - found.st_ctime_ns > _TICK_NS and not is_mapped:
                self._known[relative] = known
            return known[1]
        self._known[relative] = known
        # Announced before the object is looked for: the writer's thread may be about to remove it.
        self._announce(known[1])
        if not (self._store.objects / Digest.parse(known[1]).hex).exists():  # pruned since
            self._store.store_file(path, self._announce)
        return known[1]


def stored_digests(state: Mapping[str, Any]) -> set[str]:
    """The digests of all files that a state of files has in the store."""
    return {digest for _, _, digest in (*state["files"], *state.get("ignored", ()))}


def mapped_files() -> frozenset[int | str]:
    """Inodes and paths of the files that this process writes to through its memory."""
    found: set[int | str] = set()
    for line in Path("/proc/self/maps").read_text("utf-8", "surrogateescape").split("\n"):
        _, access, _, _, inode, path = [*line.split(maxsplit=5), *[""] * 6][:6]
        # In a container the file system may have another inode, or the path another form.
        if access[1:2] == "w" and access[3:4] == "s":
            found |= {int(inode), path}
    return frozenset(found)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_mode(value: Any) -> bool:
    return type(value) is int and value in range(0o10000)


def _is_position(value: Any) -> bool:
    return type(value) is int and value in range(1 << 63)


def _is_time(value: Any) -> bool:
    return type(value) is int and abs(value) < 1 << 64


_ROWS: Mapping[str, tuple[Callable[[Any], bool], ...]] = {
    "files": (_is_text, _is_mode, _is_text),
    "links": (_is_text, _is_text),
    "open": (_is_text, _is_position),
    # A folder alone has a mode here.
    "times": (_is_text, lambda value: value is None or _is_mode(value), _is_time, _is_time),
    "ignored": (_is_text, _is_mode, _is_text),
}


def _check_rows(state: Mapping[str, Any]) -> None:
    """Raise RecordError unless all parts are as `capture` makes them; a checkpoint of an earlier version lacks some."""
    given = {"times": [], "ignored": []} | dict(state)
    if not isinstance(given.get("folders"), list) or not all(map(_is_text, given["folders"])):
        raise RecordError("a checkpoint's output folders are malformed")
    for name, checks in _ROWS.items():
        rows = given.get(name)
        if not isinstance(rows, list) or not all(_has_values(row, checks) for row in rows):
            raise RecordError(f"a checkpoint's output files are malformed: {name}")


def _has_values(row: Any, checks: Sequence[Callable[[Any], bool]]) -> bool:
    if not isinstance(row, (list, tuple)) or len(row) != len(checks):
        return False
    return all(check(value) for check, value in zip(checks, row, strict=True))


def _check_inside(state: dict[str, Any]) -> None:
    # A parent that is a link could lead anywhere.
    links = {relative for relative, _ in state["links"]}
    named = (*state["files"], *state["links"], *state.get("times", []), *state.get("ignored", []))
    for relative in (*state["folders"], *(item[0] for item in named)):
        path = PurePosixPath(relative)
        if path.is_absolute() or ".." in path.parts or {str(parent) for parent in path.parents} & links:
            raise RecordError(f"a checkpoint names an output file outside of the outputs: {relative}")


def _times(path: Path) -> tuple[int | None, int, int]:
    """The mode of a folder, which else nothing holds, and when a path was read and changed."""
    found = path.lstat()
    mode = stat.S_IMODE(found.st_mode) if stat.S_ISDIR(found.st_mode) else None
    return mode, found.st_atime_ns, found.st_mtime_ns


def _writable(number: int) -> bool:
    with open(f"/proc/self/fdinfo/{number}", encoding="ascii") as file:
        flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
    return flags & os.O_ACCMODE != os.O_RDONLY


def _open_files(folder: Path) -> list[tuple[int, str]]:
    """Descriptor and path of each file of a folder that is open for writing, by path, then by descriptor.

    Which descriptor a file gets depends on what else is open, also in the process that started this one.
    """
    found = []
    root = f"{os.path.realpath(folder)}/"
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        with suppress(OSError):
            # A file may be closed while the descriptors are listed.
            path = os.readlink(f"/proc/self/fd/{name}")
            if path.startswith(root) and _writable(int(name)):
                found.append((int(name), path.removeprefix(root)))
    return sorted(found, key=lambda item: item[1])


def flush_files(*folders: Path) -> None:
    """Flush the buffers of Python file objects that write to these folders."""
    # All objects of the interpreter are searched only where there is such a file.
    if not any(map(_open_files, folders)):
        return
    roots = tuple(os.path.realpath(folder) for folder in folders)
    for item in gc.get_objects():
        if isinstance(item, (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            # A text file over a buffer in memory has no name.
            with suppress(OSError, ValueError, TypeError, AttributeError):
                name = item.name
                if (
                    isinstance(name, (str, os.PathLike))
                    and os.path.realpath(name).startswith(roots)
                    and item.writable()
                ):
                    item.flush()
