"""The ledger: an append-only log, one JSON line per epoch (or per step), chained by digests.

Each line has its number and the digest of the previous line. The first line has the recipe's digest instead, so that a
ledger belongs to one recipe. Lines hold no times. A resumed run starts with the lines of the run that it resumes. Lines
after the checkpoint must be reproduced exactly; otherwise the new run fails.
"""

import fcntl
import json
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import canonical_json, storage_error

LEDGER_VERSION = "1.2"
_PLACE_WORDS = {"fit": "fit", "loop": "loop", "stage": "phase", "epoch": "epoch", "step": "step", "round": "round"}
"""The keys that locate a line in the training, and their names in messages."""

_SYNC_SECONDS = 1.0  # an fsync after every line would slow short epochs down by up to 1 %


class Ledger:
    """Appends lines, each written before the next. Holds a file lock, which shows others that the run is alive."""

    def __init__(self, path: Path, recipe: Digest) -> None:
        self._path = path
        self._synced = time.monotonic()
        try:
            # Unbuffered, so that a killed process loses no line.
            self._file = path.open("a+b", buffering=0)
            # A shared lock, because launcher and training hold it at the same time.
            _lock(self._file.fileno())
            self._file.seek(0)
            self._recorded = self._file.read().splitlines(keepends=True)
        except OSError as error:
            raise storage_error(error, path) from error
        self._tail = _LedgerTail(lines=0, last=recipe, size=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # `sync` reports the error where it matters
            os.fdatasync(self._file.fileno())
        self._file.close()

    @property
    def lines(self) -> int:
        """The number of lines that this run has written or reproduced."""
        return self._tail.lines

    @property
    def last(self) -> Digest:
        """The digest of the last such line; the recipe's digest if there is none yet."""
        return self._tail.last

    def recorded_before(self, lines: int) -> Iterator[bytes]:
        """The first `lines` lines that the file had when it was opened, from the last to the first."""
        return reversed(self._recorded[:lines])

    def resume_at(self, lines: int, last: Digest) -> None:
        """Continue after line `lines`; raises RecordError if its digest in the file is not `last`."""
        kept = self._recorded[:lines]
        if lines and (len(kept) < lines or Digest.of_bytes(kept[-1].rstrip(b"\n")) != last):
            raise RecordError(f"{self._path} was changed: line {lines} is not the one that the checkpoint refers to")
        self._tail = _LedgerTail(lines=lines, last=last, size=sum(map(len, kept)))

    def file_end(self) -> tuple[int, Digest]:
        """The number of lines in the file and the digest of the last, including lines that are not yet reproduced."""
        # Once the old lines are reproduced, the end is this run's own.
        if self.lines >= len(self._recorded):
            return self.lines, self.last
        return len(self._recorded), Digest.of_bytes(self._recorded[-1].rstrip(b"\n"))

    def append(self, values: Mapping[str, object]) -> None:
        """Write one line; raises StorageError if it cannot be written, and leaves no part of it.

        After `resume_at`, a line that the file already has is compared instead; raises InputError if it differs.

        A process that dies loses no line. The disk is flushed at most once a second, so a power failure may lose the
        lines since then.
        """
        before = self._tail
        # The chain: each line contains the digest of the line before.
        number = before.lines + 1
        line = canonical_json({**values, "version": LEDGER_VERSION, "line": number, "previous": str(before.last)})
        after = _LedgerTail(lines=number, last=Digest.of_bytes(line), size=before.size + len(line) + 1)
        if before.lines < len(self._recorded):
            if self._recorded[before.lines] != line + b"\n":
                raise InputError(
                    f"the resumed training did not reproduce line {number} of the ledger ({line_place(values)}):"
                    f" {_first_difference(self._recorded[before.lines], values)} differs;"
                    " nothing after it was trained; see `samebits check --resume`, or train again"
                )
            self._tail = after
            return
        try:
            self._write(line + b"\n")
            self._tail = after
        finally:
            # Also after Ctrl-C in between: a line that is not counted must not stay in the file.
            if self._tail is before:
                self._truncate()
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Flush all lines to the disk. Call it before a record that refers to them is finalized."""
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._synced = time.monotonic()

    def _write(self, content: bytes) -> None:
        """Write everything: a nearly full disk accepts a part, and reports the error on the next call only."""
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            raise storage_error(error, self._path) from error

    def _truncate(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), self._tail.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class _LedgerTail:
    """The state of the file. It is one value, so that an interrupt finds either the old or the new state."""

    lines: int
    last: Digest
    size: int


def parse_line(line: bytes) -> dict[str, Any]:
    """The values of a line; empty for one that was damaged."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def last_steps(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The traced steps of `fit` after the last end of an epoch or round; `lines` begin with the last one."""
    for values in map(parse_line, lines):
        if values.get("event") in ("epoch", "round"):
            return
        if values.get("event") == "step" and "fit" in values:
            yield values


def line_place(values: Mapping[str, object]) -> str:
    """The position of a line in the training, for messages: `fit 0, epoch 3`."""
    known = [f"{word} {values[name]}" for name, word in _PLACE_WORDS.items() if name in values]
    return ", ".join(known) or str(values.get("event"))


def _first_difference(recorded: bytes, values: Mapping[str, object]) -> str:
    """The name of the first value in which a recorded line differs, such as `val_loss`."""
    try:
        known = json.loads(recorded)
    except ValueError:
        return "the line"
    if not isinstance(known, dict):
        return "the line"
    for name in dict.fromkeys([*values, *(known.keys() - {"version", "line", "previous"})]):
        one, other = known.get(name), values.get(name)
        if one == other:
            continue
        # Metrics and digests are named each; a metric's own name says enough.
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            inner = next(key for key in sorted({*one, *other}) if one.get(key) != other.get(key))
            return str(inner) if name == "metrics" else f"{name}.{inner}"
        return str(name)
    return "the line"


def lock_alive(path: Path) -> int:
    """Hold the lock that shows that a run is alive, without opening its ledger for writing; returns a descriptor."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    _lock(descriptor)
    return descriptor


def is_alive(path: Path) -> bool:
    """Whether a process holds the ledger's lock: the launcher or the training. Takes no lock itself."""
    try:
        # A received folder may hold a pipe in its place.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Asks whether an exclusive lock would conflict; any holder of a shared lock does.
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
    finally:
        os.close(descriptor)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


_FLOCK = "hhqqi4x"
"""`struct flock` of 64-bit Linux: type, whence, start, length, process."""


def _whole_file(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)


def _lock(descriptor: int) -> None:
    """Take a shared lock that belongs to the open file: it ends when the last process closes the file."""
    # Not a POSIX lock: a forked child does not inherit it, and closing any descriptor of the file ends it.
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_RDLCK))
