"""The ledger: one line per epoch, each carrying the digest of the line before it.

The first line carries the recipe's digest in that place, so that a ledger belongs to one recipe. Lines hold no times.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from samebits.codec import canonical_json, storage_error
from samebits.digest import Digest

VERSION = "1.0"


class Ledger:
    """Appends lines, each flushed to the disk before the next; its file lock tells others that the run is alive."""

    def __init__(self, path: Path, recipe: Digest) -> None:
        self._path = path
        self._previous = recipe
        self.lines = 0
        try:
            self._file = path.open("ab", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_SH)
        except OSError as error:
            raise storage_error(error, path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def last(self) -> Digest:
        """The digest of the last line, or the recipe's where there is none yet."""
        return self._previous

    def append(self, values: Mapping[str, object]) -> None:
        """Write one line; raises StorageError where the disk does not take it."""
        line = canonical_json({**values, "version": VERSION, "previous": str(self._previous)})
        try:
            self._file.write(line + b"\n")
            os.fdatasync(self._file.fileno())
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._previous = Digest.of_bytes(line)
        self.lines += 1


def hold(path: Path) -> int:
    """Take the liveness lock of a run without writing to its ledger; returns a descriptor to close."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def is_alive(path: Path) -> bool:
    """Whether a process still holds the ledger: its launcher or the training itself."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_lines(path: Path) -> Iterator[bytes]:
    """The ledger's lines without their ends, one at a time."""
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n")
