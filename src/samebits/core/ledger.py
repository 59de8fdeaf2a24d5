"""The ledger: one line per epoch, each carrying its number and the digest of the line before it.

The first line carries the recipe's digest in that place, so that a ledger belongs to one recipe. Lines hold no times.
A run that resumes another begins with the other's lines: what it does again must be told again in the same words.
"""

import fcntl
import os
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import canonical_json, storage_error

LEDGER_VERSION = "1.1"
_PLACE_WORDS = {"fit": "fit", "loop": "loop", "stage": "phase", "epoch": "epoch", "step": "step", "round": "round"}
"""The keys of a line that say where in a training it was written, and what messages call them."""

_SYNC_EVERY = 1.0  # seconds: a wait for the disk after every line costs short epochs up to a hundredth


class Ledger:
    """Appends lines, each handed to the system before the next; its file lock tells others that the run is alive."""

    def __init__(self, path: Path, recipe: Digest) -> None:
        self._path = path
        self._synced = time.monotonic()
        try:
            self._file = path.open("a+b", buffering=0)
            _lock(self._file.fileno())
            self._file.seek(0)
            self._before = self._file.read().splitlines(keepends=True)
        except OSError as error:
            raise storage_error(error, path) from error
        self._written = _LedgerTail(lines=0, last=recipe, size=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # `sync` has told before, where it mattered
            os.fdatasync(self._file.fileno())
        self._file.close()

    @property
    def lines(self) -> int:
        """How many lines there are."""
        return self._written.lines

    @property
    def last(self) -> Digest:
        """The digest of the last line, or the recipe's where there is none yet."""
        return self._written.last

    def resume_at(self, lines: int, last: Digest) -> None:
        """Take the place behind a line that was there before; raises RecordError where it is not that line."""
        before = self._before[:lines]
        if lines and (len(before) < lines or Digest.of_bytes(before[-1].rstrip(b"\n")) != last):
            raise RecordError(f"{self._path} has no line {lines} that a checkpoint names; it was changed")
        self._written = _LedgerTail(lines=lines, last=last, size=sum(map(len, before)))

    def file_end(self) -> tuple[int, Digest]:
        """How many lines the file holds, and the digest of the last: also of those that are still to be told again."""
        if self.lines >= len(self._before):
            return self.lines, self.last
        return len(self._before), Digest.of_bytes(self._before[-1].rstrip(b"\n"))

    def append(self, values: Mapping[str, object]) -> None:
        """Write one line; raises StorageError where the disk does not take it, and leaves no piece of it.

        A line that was there before is compared instead; raises InputError where it is another one.

        A process that dies loses none. The disk is waited for once a second at most: a machine that loses power may
        lose the lines since.
        """
        before = self._written
        number = before.lines + 1
        line = canonical_json({**values, "version": LEDGER_VERSION, "line": number, "previous": str(before.last)})
        after = _LedgerTail(lines=number, last=Digest.of_bytes(line), size=before.size + len(line) + 1)
        if before.lines < len(self._before):
            if self._before[before.lines] != line + b"\n":
                raise InputError(
                    f"the training that was resumed does not repeat: line {number} of the ledger was another one before"
                    f" ({line_place(values)}); see Limits in the README"
                )
            self._written = after
            return
        try:
            self._write(line + b"\n")
            self._written = after
        finally:
            if self._written is before:  # also where Ctrl-C came between: what is not counted must not be there
                self._take_back()
        if time.monotonic() - self._synced > _SYNC_EVERY:
            self.sync()

    def sync(self) -> None:
        """Wait until the disk holds all lines; to be called before a record that names them is sealed."""
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._synced = time.monotonic()

    def _write(self, content: bytes) -> None:
        """All of it: a disk that is nearly full may take a part, and says so only when asked for the rest."""
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            raise storage_error(error, self._path) from error

    def _take_back(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), self._written.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class _LedgerTail:
    """What the file holds; one value, so that an interrupt finds either the old or the new state."""

    lines: int
    last: Digest
    size: int


def line_place(values: Mapping[str, object]) -> str:
    """Where in a training a line was written, for people: `fit 0, epoch 3`."""
    known = [f"{word} {values[name]}" for name, word in _PLACE_WORDS.items() if name in values]
    return ", ".join(known) or str(values.get("event"))


def lock_alive(path: Path) -> int:
    """Take the liveness lock of a run without writing to its ledger; returns a descriptor to close."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    _lock(descriptor)
    return descriptor


def is_alive(path: Path) -> bool:
    """Whether a process still holds the ledger: its launcher or the training itself. Only asks, and locks nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
    finally:
        os.close(descriptor)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


_FLOCK = "hhqqi4x"
"""`struct flock` of 64-bit Linux: type, whence, start, length, process."""


def _whole_file(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)


def _lock(descriptor: int) -> None:
    """A shared lock that belongs to the open file, and ends with the last process that has it open."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_RDLCK))
