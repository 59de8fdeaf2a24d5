"""The index of a folder of runs, which spares reading thousands of ended runs again.

It is a database in the cache, one for each folder of runs. It may be removed at any time. Lists use it; nothing that
gives a verdict does.
"""

import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from samebits import __version__
from samebits.core.digest import Digest
from samebits.core.errors import RecordError, StorageError
from samebits.core.known_digests import STAMP_BYTES, last_change, stamp_of
from samebits.core.run_dir import RunDir
from samebits.host.cache_dir import cache_folder
from samebits.host.console import log
from samebits.host.runs.listed_run import ListedRun, read_listed

_FORM = 5  # of the tables
_SETTLED_SECONDS = 2.0  # after a change; the clock of a file system may be so coarse
_WAIT_SECONDS = 1.0  # for another list that writes the index
_COLUMNS = "state BLOB, crc INTEGER, content BLOB, name BLOB PRIMARY KEY"
_ROWS, _SUMMARIES = "runs", "summaries"
"""The tables. Every list reads all rows; the summaries, which are larger, only where they are asked for."""
_PAGES = "PRAGMA page_size = 65536"  # of a new file; all rows are read at once
_RECORD, _VERIFICATION = RunDir(Path()).record.name, RunDir(Path()).verification.name

_Entry = tuple[bytes, int, bytes, bytes]
"""The state of a run's files, a checksum, what a list shows of the run or its summary, and the name of its folder."""

_NO_FILE, _UNREADABLE = bytes(STAMP_BYTES), b"\xff" * STAMP_BYTES


class RunIndex:
    """The index of one folder of runs."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        # Another version may show a run otherwise.
        name = Digest.of_bytes(os.fsencode(os.path.realpath(runs)) + f" {__version__} {_FORM}".encode()).hex[:32]
        self._path: Path | None = None
        with suppress(StorageError):
            self._path = cache_folder("lists") / f"{name}.sqlite"
        self._summaries: dict[bytes, _Entry] | None = None

    def read(self, names: Iterable[str]) -> Iterator[ListedRun]:
        """Each of these folders that is a run; a line on stderr names one that cannot be read.

        What is new is added to the index, and what changed or is gone is removed from it.
        """
        known, outdated, new = self._load(_ROWS), list[bytes](), list[tuple[_Entry, _Entry]]()
        at = os.open(self._runs, os.O_PATH | os.O_DIRECTORY)
        try:
            for name in names:
                entry = known.pop(os.fsencode(name), None)
                listed = None if entry is None else self._unchanged(at, name, entry)
                if listed is None:
                    listed = self._read_new(at, name, new)
                    outdated += [] if entry is None else [entry[-1]]
                if listed is not None:
                    yield listed
        finally:
            os.close(at)
        if new or outdated or known:
            self._save(new, [*outdated, *known])

    def _unchanged(self, at: int, name: str, entry: _Entry) -> ListedRun | None:
        """The run from the index; None where it changed since, or the entry was damaged."""
        try:
            state, checksum, row, _ = entry
            if _state(at, name, state) == state and checksum == _checksum(os.fsencode(name), state, row):
                return ListedRun(self._runs, name, row, self._summary_of)
        except (TypeError, ValueError):  # the database holds other values, or rows
            pass
        return None

    def _summary_of(self, name: str) -> bytes:
        """The summary of a run that the index holds; read again where it was damaged, or the index is gone."""
        if self._summaries is None:
            self._summaries = self._load(_SUMMARIES)
        with suppress(KeyError, TypeError, ValueError):
            state, checksum, summary, _ = self._summaries[os.fsencode(name)]
            if checksum == _checksum(os.fsencode(name), state, summary):
                return summary
        self._save([], [os.fsencode(name)])
        try:
            (_, summary), _ = read_listed(RunDir(self._runs / name))
        except OSError as error:
            raise RecordError(f"{self._runs / name}: {error.strerror}") from error
        return summary

    def _read_new(self, at: int, name: str, new: list[tuple[_Entry, _Entry]]) -> ListedRun | None:
        """The run from its folder; None if it cannot be read. What cannot change unseen is added to `new`."""
        # `lexists`: a dangling link is a broken run, which is reported and not hidden.
        if not os.path.lexists(self._runs / name / _RECORD):
            return None
        # Taken first: a change while the run is read shows as another state later.
        state = _state(at, name)
        latest = time.time() - _SETTLED_SECONDS
        try:
            (row, summary), ended = read_listed(RunDir(self._runs / name))
        except (RecordError, OSError) as error:
            log(str(error))
            return None
        if ended and _last_change(state) < latest:
            stored = os.fsencode(name)
            one, other = ((state, _checksum(stored, state, content), content, stored) for content in (row, summary))
            new.append((one, other))
        return ListedRun(self._runs, name, row, lambda _: summary)

    def _load(self, table: str) -> dict[bytes, _Entry]:
        if self._path is None:
            return {}
        try:
            with closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as database, database:
                database.execute(_PAGES)
                _make_tables(database)
                rows = database.execute(f"SELECT * FROM {table}")  # noqa: S608  a name of ours, as below
                return {row[-1]: row for row in rows}
        except sqlite3.OperationalError:  # another list holds it, or the disk is full
            return {}
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)
            return {}

    def _save(self, new: Sequence[tuple[_Entry, _Entry]], outdated: Sequence[bytes]) -> None:
        if self._path is None:
            return
        with suppress(sqlite3.Error), closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as database, database:
            _make_tables(database)
            for number, table in enumerate((_ROWS, _SUMMARIES)):
                gone, entries = ((name,) for name in outdated), (pair[number] for pair in new)
                database.executemany(f"DELETE FROM {table} WHERE name = ?", gone)  # noqa: S608
                database.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?)", entries)  # noqa: S608


def _make_tables(database: sqlite3.Connection) -> None:
    for table in (_ROWS, _SUMMARIES):
        database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({_COLUMNS})")


def _checksum(name: bytes, state: bytes, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(state, zlib.crc32(name)))


def _state(at: int, name: str, known: bytes = b"") -> bytes:
    """What changes whenever a file that is shown does; `known` is the state when the run was read.

    The folder is one of these files: it changes where one is added, removed or replaced. `at` is the folder that holds
    it: of 100,000 paths the kernel would look up each from its beginning.
    """
    record = f"{name}/{_RECORD}"
    try:
        state = stamp_of(os.stat(name, dir_fd=at)) + stamp_of(os.stat(record, dir_fd=at))
    except OSError:
        state = _stamp(at, name) + _stamp(at, record)
    # An unchanged folder without a verification has none now. It is not asked for: there may be thousands.
    return known if known == state + _NO_FILE else state + _stamp(at, f"{name}/{_VERIFICATION}")


def _stamp(at: int, path: str) -> bytes:
    try:
        return stamp_of(os.stat(path, dir_fd=at))
    except OSError:
        with suppress(OSError):
            os.lstat(path, dir_fd=at)
            return _UNREADABLE
        return _NO_FILE


def _last_change(state: bytes) -> float:
    return max(last_change(state[at : at + STAMP_BYTES]) for at in range(0, len(state), STAMP_BYTES)) / 1e9
