"""What the process's open files hold beside their content: positions, bytes in pipes, counters of the kernel.

A resumed script opens its files anew, at their beginning. Output files that are open for writing get their positions
back (`output_files`). What is compared here must not change during training. Libraries in C open files by themselves,
and find their own way in them, so that only those are compared that Python code opened.
"""

import fcntl
import gc
import io
import itertools
import os
import re
import socket
import stat
import sys
import termios
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER = "/proc/self/fd"
_UNREAD = frozenset({"pipe", "pipe2", "socketpair", "openpty", "mkfifo"})
_COUNTERS = frozenset({"eventfd", "memfd_create"})
_COPIES = frozenset({"dup", "dup2", "recv_fds", "fcntl"})
_NUMBERS = frozenset({"num_fds", "open_files", "num_handles"})
CALLS = _UNREAD | _COUNTERS | _COPIES | _NUMBERS
"""The names by which code makes, copies or counts descriptors."""
LISTED = re.compile(r"/fd(/|$)")
"""A part of the folder in which code finds its own descriptors."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open file of this process."""

    number: int
    path: str
    at: os.stat_result
    facts: Mapping[str, str]
    """What the kernel says of it: `pos`, `flags`, and more for some kinds."""

    @property
    def access(self) -> int:
        """Whether it is open for reading, for writing, or both, as `os.open` has it."""
        return int(self.facts.get("flags", "0"), 8) & os.O_ACCMODE

    @property
    def position(self) -> int:
        """How far it has been read or written."""
        return int(self.facts.get("pos", "0"))


def descriptors() -> list[Descriptor]:
    """All that are open now; any may be closed meanwhile."""
    found = []
    for name in sorted(os.listdir(_FOLDER), key=int):
        with suppress(OSError, ValueError):
            lines = Path("/proc/self/fdinfo", name).read_text("ascii", "replace").splitlines()
            facts = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
            found.append(Descriptor(int(name), os.readlink(f"{_FOLDER}/{name}"), os.fstat(int(name)), facts))
    return found


class OpenDescriptors:
    """Compares what the script's descriptors hold; those that are open when this is created are not the script's.

    `opened` are the paths that Python code opened by `os.open`, `uses` the names of `CALLS` that the script's code has,
    and `lists` whether it has a text like `LISTED`. The folder `run` is samebits's, but for those named `shared`.
    """

    def __init__(self, run: Path, shared: Iterable[Path]) -> None:
        self.opened: Callable[[], AbstractSet[str]] = frozenset
        self._own = f"{os.path.realpath(run)}/"
        self._shared = tuple(f"{os.path.realpath(path)}/" for path in shared)
        self._given = {(item.number, item.path) for item in descriptors()}
        self._uses: AbstractSet[str] = frozenset()
        self._lists = False
        self._files: dict[tuple[int, str], tuple[str, list[weakref.ref[Any]]]] = {}
        self._serial = itertools.count()

    def begin_phase(self, uses: AbstractSet[str], *, lists: bool) -> None:
        """Note which files are open when a phase begins."""
        self._uses, self._lists = uses, lists
        listed = [item for item in self._others() if _is_read(item)]
        owners = _owners() if listed else {}
        # Found once: to look through all objects at each checkpoint would take a tenth of a second.
        self._files = {
            (item.number, item.path): (_read_position(item, files), [weakref.ref(file) for file in files])
            for item in listed
            if (files := owners.get(item.number))
        }

    def now(self) -> dict[str, str]:
        """What they hold, by the words for a change."""
        others = self._others()
        found = dict(self._of_files(others))
        # Python's own objects are looked for only where a descriptor may have none.
        watched = [item for item in others if self._is_watched(item)]
        owners = _owners() if watched else {}
        # What another thread has closed since was its own matter.
        left = {(item.number, item.path) for item in descriptors()} if watched else set()
        bare = [item for item in watched if item.number not in owners and (item.number, item.path) in left]
        found |= dict(self._of_bare(bare))
        if self._lists or self._uses & _NUMBERS:
            found["the number of open files"] = str(len(others))
        return found

    def _others(self) -> list[Descriptor]:
        found = [item for item in descriptors() if (item.number, item.path) not in self._given]
        return [item for item in found if not self._is_own(f"{item.path}/")]

    def _is_own(self, path: str) -> bool:
        return path.startswith(self._own) and not path.startswith(self._shared)

    def _of_files(self, others: list[Descriptor]) -> Iterator[tuple[str, str]]:
        """How far files are read that were open when the phase began. One that is closed meanwhile holds nothing."""
        listed = {(item.number, item.path): item for item in others}
        for key, (before, known) in self._files.items():
            files = [file for file in (reference() for reference in known) if file is not None]
            text = _read_position(listed[key], files) if files and key in listed else before
            yield f"the position in {os.path.basename(key[1])} (descriptor {key[0]})", text

    def _is_watched(self, item: Descriptor) -> bool:
        """Whether it may be a descriptor that a script uses as a number."""
        if stat.S_ISFIFO(item.at.st_mode) or stat.S_ISSOCK(item.at.st_mode):
            return bool(self._uses & _UNREAD) and item.access != os.O_WRONLY
        if "eventfd-count" in item.facts:
            return "eventfd" in self._uses
        if item.path.startswith("/memfd:"):
            return "memfd_create" in self._uses
        copied = stat.S_ISREG(item.at.st_mode) and self._uses & _COPIES
        return bool(copied or self._is_opened(item))

    def _is_opened(self, item: Descriptor) -> bool:
        return item.path.removesuffix(" (deleted)") in self.opened()

    def _of_bare(self, bare: list[Descriptor]) -> Iterator[tuple[str, str]]:
        positions: dict[str, list[int]] = defaultdict(list)
        mapped = _mapped_paths() if bare else frozenset()
        for item in bare:
            if stat.S_ISFIFO(item.at.st_mode) or stat.S_ISSOCK(item.at.st_mode):
                if unread := _unread(item.number):
                    # As many other bytes would look the same.
                    yield f"what a pipe holds (descriptor {item.number})", f"{unread} {next(self._serial)}"
            elif "eventfd-count" in item.facts:
                yield f"the counter of an eventfd (descriptor {item.number})", item.facts["eventfd-count"]
            elif item.access == os.O_RDONLY:
                # The number of one that is opened during training is none in a resumed run.
                if item.path not in mapped and (item.position or self._is_opened(item)):
                    positions[f"the position of a descriptor of {os.path.basename(item.path)}"].append(item.position)
            elif not item.at.st_nlink:
                # No name leads to this file, so that no checkpoint holds it.
                mark = item.position, item.at.st_size, item.at.st_mtime_ns
                yield f"a file without a name (descriptor {item.number})", repr(mark)
        yield from ((name, repr(sorted(found))) for name, found in positions.items())


def _is_read(item: Descriptor) -> bool:
    return stat.S_ISREG(item.at.st_mode) and item.access == os.O_RDONLY


def _read_position(item: Descriptor, files: list[Any]) -> str:
    """How far a file was read: by the kernel, and by its objects in Python, which read ahead."""
    return repr([item.position, *sorted(map(_position_of, files))])


def _position_of(file: Any) -> int:
    with suppress(OSError, ValueError):  # a text file does not say while it is iterated
        return int(file.tell())
    return -1


def _owners() -> dict[int, list[Any]]:
    """The objects of Python that read or write a descriptor and close it, by its number."""
    kinds = [io.FileIO, io.BufferedReader, io.TextIOWrapper, socket.socket]
    if connection := sys.modules.get("multiprocessing.connection"):
        kinds.append(connection.Connection)
    found: dict[int, list[Any]] = defaultdict(list)
    for item in gc.get_objects():
        if issubclass(type(item), tuple(kinds)) and getattr(item, "closefd", True):
            # A closed one has no number; one in memory never had one.
            with suppress(OSError, ValueError, AttributeError):
                found[item.fileno()].append(item)
    return found


def _mapped_paths() -> frozenset[str]:
    """The files that are in memory: a mapping holds a descriptor of its own, at the place where it was made."""
    lines = Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines()
    return frozenset(line.split(maxsplit=5)[5] for line in lines if "/" in line)


def _unread(number: int) -> int:
    with suppress(OSError):
        return int.from_bytes(fcntl.ioctl(number, termios.FIONREAD, bytes(4)), sys.byteorder)
    return 0
