"""What a list shows of each run, and the index that spares reading thousands of ended runs again.

The index is a database in the cache, one for each folder of runs. It may be removed at any time. Lists use it; nothing
that gives a verdict does.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from samebits import __version__
from samebits.core.digest import Digest
from samebits.core.errors import RecordError, StorageError
from samebits.core.liveness import Host, RunProcess
from samebits.core.record import Outcome
from samebits.core.record_summary import RecordSummary, read_summary
from samebits.core.run_dir import RunDir
from samebits.host.cache_dir import cache_folder
from samebits.host.console import log
from samebits.host.runs.verification_file import read_verification

_SETTLED_SECONDS = 2.0  # after a change; the clock of a file system may be so coarse
_WAIT_SECONDS = 1.0  # for another list that writes the index
_TABLE = "CREATE TABLE IF NOT EXISTS runs (name BLOB PRIMARY KEY, state TEXT, shown TEXT)"
_SHOWN = ("", RunDir(Path()).record.name, RunDir(Path()).verification.name)
"""The files that a list shows, and the folder: it changes where one is added or replaced."""


class ListedRun(NamedTuple):
    """A run as a list shows it: `late` are the names of late records, `note` says which run it verifies or resumes."""

    folder: RunDir
    summary: RecordSummary
    late: tuple[str, ...]
    note: str


def read_listed(folder: RunDir, recorded: RecordSummary) -> ListedRun:
    """A run whose record says so, with what else is in its folder now."""
    summary = folder.as_of_now(recorded)
    late = tuple(path.name for path in folder.late_records())
    return ListedRun(folder, summary, late, _note(folder, summary))


def _note(folder: RunDir, summary: RecordSummary) -> str:
    """Which run this one verifies, with the verdict, or resumes; empty for any other run."""
    try:
        found = read_verification(folder.verification) if folder.verification.exists() else None
    except (RecordError, OSError) as error:
        return str(error)
    if found is not None:
        return f"verifies {found.verified}: {found.verdict}"
    # A verification that was interrupted has no verdict.
    if summary.verifies:
        return f"verifies {summary.verifies}"
    return f"resumes {summary.resumes}" if summary.resumes else ""


class RunIndex:
    """The index of one folder of runs."""

    def __init__(self, runs: Path) -> None:
        # Another version may show a run otherwise.
        name = Digest.of_bytes(os.fsencode(os.path.realpath(runs)) + f" {__version__}".encode()).hex[:32]
        self._path: Path | None = None
        with suppress(StorageError):
            self._path = cache_folder("lists") / f"{name}.sqlite"

    def read(self, folders: Iterable[RunDir]) -> Iterator[ListedRun]:
        """Each run that can be read; a line on stderr names any other. What is new is added to the index."""
        known, found = self._load(), dict[bytes, tuple[str, str]]()
        latest = time.time() - _SETTLED_SECONDS
        changed = False
        for folder in folders:
            name, (state, since) = os.fsencode(folder.path.name), _state(folder)
            listed = _known(folder, state, known.get(name))
            if listed is None:
                try:
                    recorded = read_summary(folder.record)
                    listed = read_listed(folder, recorded)
                except (RecordError, OSError) as error:
                    log(str(error))
                    continue
                changed = True
                if recorded.finalized and since < latest:
                    found[name] = state, _pack(listed)
            else:
                found[name] = known[name]
            yield listed
        if changed or len(known) != len(found):
            self._save(found, known)

    def _load(self) -> Mapping[bytes, tuple[str, str]]:
        if self._path is None:
            return {}
        try:
            with closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as database, database:
                database.execute(_TABLE)
                return {name: (state, shown) for name, state, shown in database.execute("SELECT * FROM runs")}
        except sqlite3.OperationalError:  # another list holds it, or the disk is full
            return {}
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)
            return {}

    def _save(self, found: Mapping[bytes, tuple[str, str]], known: Mapping[bytes, tuple[str, str]]) -> None:
        new = [(name, *entry) for name, entry in found.items() if known.get(name) != entry]
        gone = [(name,) for name in known if name not in found]
        if self._path is None:
            return
        with suppress(sqlite3.Error), closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as database, database:
            database.execute(_TABLE)
            database.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", new)
            database.executemany("DELETE FROM runs WHERE name = ?", gone)


def _state(folder: RunDir) -> tuple[str, float]:
    """What changes whenever a file that is shown does, and the time of the last change."""
    root, texts, since = os.fspath(folder.path), [], 0.0
    for name in _SHOWN:
        try:
            at = os.stat(f"{root}/{name}")
        except OSError:
            texts.append("")
            continue
        texts.append(f"{at.st_dev}:{at.st_ino}:{at.st_size}:{at.st_mtime_ns}:{at.st_ctime_ns}")
        since = max(since, at.st_mtime, at.st_ctime)
    return " ".join(texts), since


def _pack(listed: ListedRun) -> str:
    one = listed.summary
    values = {name: getattr(one, name) for name in RecordSummary.__slots__}
    values |= {"recipe": one.recipe.hex, "result": None if one.result is None else one.result.hex}
    values |= {"outcome": one.outcome.to_dict() | {"traceback": None}, "metrics": dict(one.metrics)}
    values["host"] = None if one.host is None else one.host.to_dict()
    return json.dumps([values, listed.late, listed.note])


def _known(folder: RunDir, state: str, entry: tuple[str, str] | None) -> ListedRun | None:
    """The run from the index; None where it changed since, or the entry cannot be read."""
    if entry is None or entry[0] != state:
        return None
    with suppress(ValueError, TypeError, LookupError):
        values, late, note = json.loads(entry[1])
        return ListedRun(folder, _summary(values), tuple(late), note)
    return None


def _summary(values: dict[str, Any]) -> RecordSummary:
    """Of what `_pack` wrote. It is not checked as a record is, as there may be thousands."""
    result, host = values["result"], values["host"]
    values["recipe"] = Digest(values["recipe"])
    values["result"] = None if result is None else Digest(result)
    values["outcome"] = Outcome(**values["outcome"])
    values["arguments"] = tuple(values["arguments"])
    values["host"] = None if host is None else _host(**host)
    return RecordSummary(**values)


def _host(machine: str | None, launcher: dict[str, Any], training: dict[str, Any] | None) -> Host:
    started = None if training is None else RunProcess(**training)
    return Host(machine=machine, launcher=RunProcess(**launcher), training=started)
