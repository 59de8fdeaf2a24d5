"""The index of a folder of runs, which spares reading thousands of ended runs again.

It is a database in the cache, one for each folder of runs. It may be removed at any time. Lists use it; nothing that
gives a verdict does.
"""

import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
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

_FORM = 2  # of the table
_SETTLED_SECONDS = 2.0  # after a change; the clock of a file system may be so coarse
_WAIT_SECONDS = 1.0  # for another list that writes the index
_TABLE = "CREATE TABLE IF NOT EXISTS runs (state BLOB, crc INTEGER, shown BLOB, name BLOB PRIMARY KEY)"
_PAGES = "PRAGMA page_size = 65536"  # of a new file; all rows are read at once
_RECORD, _VERIFICATION = RunDir(Path()).record.name, RunDir(Path()).verification.name

_Entry = tuple[bytes, int, bytes, bytes]
"""The state of a run's files, a checksum, what a list shows of the run, and the name of its folder."""

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

    def read(self, names: Iterable[str]) -> Iterator[ListedRun]:
        """Each of these folders that is a run; a line on stderr names one that cannot be read.

        What is new is added to the index, and what changed or is gone is removed from it.
        """
        root = os.fspath(self._runs)
        known, outdated, new = self._load(), list[bytes](), list[_Entry]()
        for name in names:
            entry = known.pop(os.fsencode(name), None)
            listed = None if entry is None else self._unchanged(f"{root}/{name}", name, entry)
            if listed is None:
                listed = self._read_new(f"{root}/{name}", name, new)
                outdated += [] if entry is None else [entry[-1]]
            if listed is not None:
                yield listed
        if new or outdated or known:
            self._save(new, [*outdated, *known])

    def _unchanged(self, folder: str, name: str, entry: _Entry) -> ListedRun | None:
        """The run from the index; None where it changed since, or the entry was damaged."""
        state, checksum, shown, _ = entry
        # TypeError, ValueError: the database holds values of other kinds.
        with suppress(TypeError, ValueError):
            if _state(folder, state) == state and checksum == _checksum(state, shown):
                return ListedRun(self._runs, name, shown.decode("utf-8", "surrogatepass"))
        return None

    def _read_new(self, folder: str, name: str, new: list[_Entry]) -> ListedRun | None:
        """The run from its folder; None if it cannot be read. What cannot change unseen is added to `new`."""
        # `lexists`: a dangling link is a broken run, which is reported and not hidden.
        if not os.path.lexists(f"{folder}/{_RECORD}"):
            return None
        # Taken first: a change while the run is read shows as another state later.
        state = _state(folder)
        latest = time.time() - _SETTLED_SECONDS
        try:
            packed, ended = read_listed(RunDir(self._runs / name))
        except (RecordError, OSError) as error:
            log(str(error))
            return None
        if ended and _last_change(state) < latest:
            shown = packed.encode("utf-8", "surrogatepass")
            new.append((state, _checksum(state, shown), shown, os.fsencode(name)))
        return ListedRun(self._runs, name, packed)

    def _load(self) -> dict[bytes, _Entry]:
        if self._path is None:
            return {}
        try:
            with closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as database, database:
                database.execute(_PAGES)
                database.execute(_TABLE)
                rows = database.execute("SELECT * FROM runs")
                return {row[3]: row for row in rows}
        except sqlite3.OperationalError:  # another list holds it, or the disk is full
            return {}
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)
            return {}

    def _save(self, new: Iterable[_Entry], outdated: Iterable[bytes]) -> None:
        if self._path is None:
            return
        with suppress(sqlite3.Error), closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as database, database:
            database.execute(_TABLE)
            database.executemany("DELETE FROM runs WHERE name = ?", ((name,) for name in outdated))
            database.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", new)


def _checksum(state: bytes, shown: bytes) -> int:
    return zlib.crc32(shown, zlib.crc32(state))


def _state(folder: str, known: bytes = b"") -> bytes:
    """What changes whenever a file that is shown does; `known` is the state when the run was read.

    The folder is one of these files: it changes where one is added, removed or replaced.
    """
    state = _stamp(folder) + _stamp(f"{folder}/{_RECORD}")
    # An unchanged folder without a verification has none now. It is not asked for: there may be thousands.
    return known if known == state + _NO_FILE else state + _stamp(f"{folder}/{_VERIFICATION}")


def _stamp(path: str) -> bytes:
    try:
        return stamp_of(os.stat(path))
    except OSError:
        with suppress(OSError):
            os.lstat(path)
            return _UNREADABLE
        return _NO_FILE


def _last_change(state: bytes) -> float:
    return max(last_change(state[at : at + STAMP_BYTES]) for at in range(0, len(state), STAMP_BYTES)) / 1e9
