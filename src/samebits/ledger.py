"""The ledger: one line per epoch, each carrying the digest of the line before it.

The first line carries the recipe's digest in that place, so that a ledger belongs to one recipe. Lines hold no times.
"""

import fcntl
import json
import os
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from samebits.codec import canonical_json, storage_error
from samebits.digest import Digest

VERSION = "1.0"
_SYNC_EVERY = 1.0  # seconds: a wait for the disk after every line costs short epochs up to a hundredth


class Ledger:
    """Appends lines, each flushed to the disk before the next; its file lock tells others that the run is alive."""

    def __init__(self, path: Path, recipe: Digest) -> None:
        self._path = path
        self._previous = recipe
        self._synced = time.monotonic()
        self.lines = 0
        try:
            self._file = path.open("a+b", buffering=0)
            _lock(self._file.fileno())
        except OSError as error:
            raise storage_error(error, path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what the disk did not take, the record's own writing tells
            os.fdatasync(self._file.fileno())
        self._file.close()

    @property
    def last(self) -> Digest:
        """The digest of the last line, or the recipe's where there is none yet."""
        return self._previous

    def append(self, values: Mapping[str, object]) -> None:
        """Write one line; raises StorageError where the disk does not take it.

        A process that dies loses none. The disk is waited for once a second at most: a machine that loses power may
        lose the lines since.
        """
        line = canonical_json({**values, "version": VERSION, "previous": str(self._previous)})
        try:
            self._file.write(line + b"\n")
            if time.monotonic() - self._synced > _SYNC_EVERY:
                os.fdatasync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._previous = Digest.of_bytes(line)
        self.lines += 1


def hold(path: Path) -> int:
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


def check_ledger(path: Path, recipe: Digest, recorded: Mapping[str, object]) -> str:
    """Follow the chain from the recipe's digest to the `lines` and `last` that a record holds; says how that went."""
    previous, number = str(recipe), 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if json.loads(line)["previous"] != previous:
                    return f"line {number} does not follow the one before"
                previous = str(Digest.of_bytes(line.rstrip(b"\n")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read after line {number}: {error}"
    if recorded != {"lines": number, "last": previous}:
        return f"its {number} lines are not those that the record names"
    return f"{number} lines, each follows the one before"
