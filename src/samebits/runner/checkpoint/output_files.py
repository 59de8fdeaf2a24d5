"""What the script has written to its output folder, as a checkpoint keeps it: files, and how far open ones are written.

Output files belong to the result. A script that runs again from its first line writes some of them anew; so all are put
back to what they were, in place, as the script may hold them open.
"""

import fnmatch
import gc
import io
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from samebits.core.checkpoint_store import CheckpointStore
from samebits.core.digest import Digest
from samebits.core.errors import RecordError


class OutputSnapshot:
    """Takes out and puts back an output folder; files that are ignored in the result are left alone."""

    def __init__(
        self, folder: Path, ignore: tuple[str, ...], store: CheckpointStore, announce: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._ignore = ignore
        self._store = store
        self._announce = announce
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}

    def take(self) -> dict[str, Any]:
        """Every folder, file and link, by path; files by their digest, their bytes go to the store."""
        opened = self._opened()
        if opened:
            _flush(self._folder)
        state: dict[str, Any] = {"folders": [], "files": [], "links": [], "open": []}
        for path, relative in self._paths():
            if path.is_symlink():
                state["links"].append([relative, os.readlink(path)])
            elif path.is_dir():
                state["folders"].append(relative)
            elif path.is_file():
                with suppress(FileNotFoundError):  # a temporary one, gone since
                    state["files"].append([relative, path.stat().st_mode & 0o777, self._digest(path, relative)])
        state["open"] = [[relative, os.lseek(number, 0, os.SEEK_CUR)] for number, relative in self._opened()]
        return state

    def put_back(self, state: dict[str, Any]) -> None:
        """Make the folder what it was; raises RecordError where that names a place outside of it."""
        _check_inside(state)
        _flush(self._folder)
        kept = {relative for relative, *_ in (*state["files"], *state["links"])} | set(state["folders"])
        for path, relative in sorted(self._paths(), reverse=True):
            if relative not in kept:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for relative in state["folders"]:
            (self._folder / relative).mkdir(parents=True, exist_ok=True)
        for relative, target in state["links"]:
            with suppress(FileNotFoundError):
                (self._folder / relative).unlink()
            (self._folder / relative).symlink_to(target)
        for relative, mode, digest in state["files"]:
            path = self._folder / relative
            with open(os.open(path, os.O_RDWR | os.O_CREAT, mode), "r+b") as file:  # the same file, whoever has it open
                file.truncate(0)
                file.write(self._store.content(Digest.parse(digest)))
            path.chmod(mode)
        places = list(state["open"])
        for number, relative in self._opened():
            found = next((place for place in places if place[0] == relative), None)
            if found is not None:
                places.remove(found)
                os.lseek(number, found[1], os.SEEK_SET)

    def _paths(self) -> Iterator[tuple[Path, str]]:
        for path in sorted(self._folder.rglob("*")):
            relative = str(path.relative_to(self._folder))
            if not any(fnmatch.fnmatchcase(relative, pattern) for pattern in self._ignore):
                yield path, relative

    def _digest(self, path: Path, relative: str) -> str:
        """Of a file's bytes; looked at again only where time, size or place on the disk say so."""
        found = path.stat()
        mark = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        known = self._known.get(relative)
        if known is None or known[0] != mark:
            known = self._known[relative] = mark, str(self._store.store_file(path, self._announce))
        elif not (self._store.objects / Digest.parse(known[1]).hex).exists():  # thinned, and wanted again
            self._store.store_file(path, self._announce)
        self._announce(known[1])
        return known[1]

    def _opened(self) -> list[tuple[int, str]]:
        """Descriptors that files of the folder are open for writing under, in their order."""
        found = []
        root = f"{os.path.realpath(self._folder)}/"
        for name in sorted(os.listdir("/proc/self/fd"), key=int):
            with suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{name}")
                if path.startswith(root) and _writable(int(name)):
                    found.append((int(name), path.removeprefix(root)))
        return found


def _check_inside(state: dict[str, Any]) -> None:
    links = {relative for relative, _ in state["links"]}
    for relative in (*state["folders"], *(item[0] for item in (*state["files"], *state["links"]))):
        path = PurePosixPath(relative)
        if path.is_absolute() or ".." in path.parts or {str(parent) for parent in path.parents} & links:
            raise RecordError(f"a checkpoint names an output file outside of the outputs: {relative}")


def _writable(number: int) -> bool:
    with open(f"/proc/self/fdinfo/{number}", encoding="ascii") as file:
        flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
    return flags & os.O_ACCMODE != os.O_RDONLY


def _flush(folder: Path) -> None:
    """Have Python's own buffers for files of the folder written."""
    root = os.path.realpath(folder)
    for item in gc.get_objects():
        if isinstance(item, (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            with suppress(OSError, ValueError, TypeError):
                name = item.name
                if isinstance(name, (str, os.PathLike)) and os.path.realpath(name).startswith(root) and item.writable():
                    item.flush()
