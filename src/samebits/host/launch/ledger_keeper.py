"""Keeps a run's ledger where its container cannot write: takes over each line as it comes, and never reads it again."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import RecordError, StorageError
from samebits.core.jsonio import storage_error
from samebits.core.record import LedgerEnd
from samebits.core.run_files import MAX_LINE_BYTES, open_plain, plain_lines
from samebits.host.audit.ledger_audit import parse_link
from samebits.host.console import log

POLL_SECONDS = 0.2
_READ_BYTES = 1 << 20


class LedgerKeeper:
    """Appends the whole lines that a container's ledger gets to the run's own, where they follow from the line before.

    The first line that does not is the last that is looked at: `problem` says what was wrong with it. Raises OSError
    where there is no such file.
    """

    def __init__(self, source: Path, target: Path, recipe: Digest) -> None:
        self._target = target
        self._lines, self._last, self._size = 0, str(recipe), 0
        self._before: tuple[str, int] | None = None
        self._rest = b""
        self._unwritten = bytearray()
        self.problem: str | None = None
        # A resumed run begins with lines; of a killed launcher the last may be cut off.
        for line in plain_lines(target):
            if line.endswith(b"\n"):
                self._count(line)
        # Opened before the container starts: another file in its place is not followed.
        self._source = open_plain(source, source.parent)
        self._out = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.ftruncate(self._out, self._size)

    @property
    def end(self) -> LedgerEnd:
        """Where the run's ledger ends."""
        return LedgerEnd(lines=self._lines, last=self._last)

    def close(self) -> None:
        """Look no more."""
        self._source.close()
        os.close(self._out)

    def take(self) -> None:
        """Take over what came since the last call; raises StorageError, after which it can be called again."""
        self._append()  # what did not fit on a full disk
        if self.problem is not None:
            return
        self._take_back()
        try:
            while part := self._read():
                *lines, self._rest = (self._rest + part).split(b"\n")
                # One by one: those before the first wrong one are kept.
                for line in lines:
                    self._unwritten += self._checked(line + b"\n")
                self._append()
                _check_length(self._rest)
        except RecordError as error:
            self.problem = f"line {self._lines + 1} of the ledger was refused: {error}"
        self._append()

    def _read(self) -> bytes:
        return os.pread(self._source.fileno(), _READ_BYTES, self._size + len(self._rest))

    def _checked(self, raw: bytes) -> bytes:
        try:
            link = parse_link(json.loads(raw), raw[:-1])
        except (ValueError, RecursionError) as error:
            raise RecordError("it is not JSON") from error
        if link.previous != self._last or link.number not in (None, self._lines + 1):
            raise RecordError("it does not follow from the line before")
        self._count(raw)
        return raw

    def _count(self, raw: bytes) -> None:
        self._before = self._last, self._size
        self._lines += 1
        self._last = str(Digest.of_bytes(raw[:-1]))
        self._size += len(raw)

    def _take_back(self) -> None:
        """Follow a runner that took back the line which it was writing when a signal came."""
        there = os.fstat(self._source.fileno()).st_size
        if there >= self._size + len(self._rest):
            return
        self._rest = b""
        if there >= self._size:
            return
        if self._before is None or there != self._before[1]:
            self.problem = "the ledger became shorter"
            return
        self._last, self._size = self._before
        self._lines, self._before = self._lines - 1, None
        os.ftruncate(self._out, self._size)

    def _append(self) -> None:
        try:
            while self._unwritten:
                del self._unwritten[: os.write(self._out, self._unwritten)]
        except OSError as error:
            raise storage_error(error, self._target) from error


def _check_length(line: bytes) -> None:
    if len(line) > MAX_LINE_BYTES:
        raise RecordError(f"it is longer than {MAX_LINE_BYTES >> 20} MiB")


class Follower:
    """Calls `step` every few moments, in a thread, until it is stopped.

    A disk that is full may have room again a moment later: its error is logged once, and the step is tried again.
    """

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self._over = threading.Event()
        self._said = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            try:
                self._step()
            except StorageError as error:
                self._say(str(error))

    def _say(self, message: str) -> None:
        if not self._said:
            log(message)
        self._said = True

    def stop(self) -> None:
        """Call it no more."""
        self._over.set()
        self._thread.join()
