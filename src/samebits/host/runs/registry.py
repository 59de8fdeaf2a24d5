"""Find runs by name, list those of a folder, and read one."""

import gc
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, TypeVar

from samebits.core.digest import with_checksum
from samebits.core.errors import InputError, RecordError, shorten
from samebits.core.jsonio import Fields, read_json
from samebits.core.project import CONFIG_NAME, find_root
from samebits.core.record import read_record
from samebits.core.record_summary import read_summary
from samebits.core.run_config import read_config
from samebits.core.run_dir import MARKER, RunDir
from samebits.core.user_config import read_user_config, require_inside
from samebits.host.console import log
from samebits.host.runs.listed_run import ListedRun, start_key
from samebits.host.runs.run_index import RunIndex

_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-")
_SKEW_SECONDS = 300.0  # by which the clocks of machines that share a folder of runs may differ


def runs_folder(named: Path | None) -> Path:
    """The folder that holds the runs: as given, else from the project's samebits.toml, else `runs`."""
    if named is not None:
        return named
    root = find_root(Path())
    project = read_config(root / CONFIG_NAME)
    require_inside({"runs": project.get("runs")}, root, {})
    return (read_user_config() | project).get("runs") or Path("runs")


def find_run(name: str, runs: Path) -> RunDir:
    """The run that `name` refers to: a folder, an id, an unambiguous prefix, or `last`. Raises InputError."""
    direct = RunDir(Path(name))
    if os.path.isfile(direct.record):
        return direct
    # A path with a separator is meant as a folder; a plain name may be an id.
    if name and os.path.isdir(name) and os.sep in name:
        raise InputError(f"the folder {name} is not a run: it has no {direct.record.name}; name the folder of a run")
    folders = run_dirs(runs)
    if name == "last":
        if not folders:
            raise InputError(
                f"there is no run in {runs} yet; `samebits train` makes one, or name another folder with --runs"
            )
        return _last(folders)
    if os.path.isfile(name) and not any(folder.path.name.startswith(name) for folder in folders):
        raise InputError(f"{name} is a file, not a run; if it is a capsule, unpack it first: samebits unpack {name}")
    return named_folder(name, folders, "run", f"in {runs}; `samebits list` shows all runs")


class _HasPath(Protocol):
    @property
    def path(self) -> Path: ...


_Folder = TypeVar("_Folder", bound=_HasPath)


def named_folder(name: str, folders: Sequence[_Folder], kind: str, absent: str) -> _Folder:
    """The one folder of this name, or whose name begins so.

    Raises InputError for none, with `absent` as its end, for several, and for an empty name.
    """
    if not name:  # as of a variable that a shell does not know
        raise InputError(f"the name of the {kind} is empty; write it, or the beginning of it")
    found = [folder for folder in folders if folder.path.name.startswith(name)]
    # An exact id wins over longer ones that begin with it.
    exact = [folder for folder in found if folder.path.name == name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise InputError(f"there is no {kind} {name} {absent}")
    names = ", ".join(folder.path.name for folder in found[:3])
    raise InputError(f"{len(found)} {kind}s begin with {name} ({names}, …); write more of the name")


def runs_beside(run: RunDir, otherwise: Path) -> Path:
    """The folder of runs that contains a run; `otherwise` where it is in none."""
    folder = run.path.absolute().parent
    return folder if (folder / MARKER).exists() else otherwise


def read_runs(runs: Path) -> list[ListedRun]:
    """All runs of a folder, oldest first. One that cannot be read is reported on stderr and left out.

    Checksums are not verified here, for speed; `show` does.
    """
    if not os.path.isdir(runs):
        raise InputError(f"there is no folder {runs}; `samebits train` creates it, or name another with --runs")
    with without_collector():
        return sorted(RunIndex(runs).read(_names(runs)), key=attrgetter("start"))


@contextmanager
def without_collector() -> Iterator[None]:
    """Thousands of runs, and what is made of them, have no cycles, which Python would look for again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def run_as_json(folder: RunDir) -> Any:
    """The record as in its file; a run that died has no final one, and gets the outcome that `RunDir.read` finds."""
    record = folder.read()
    # The file's own values, so that keys of a newer version stay.
    fields = Fields(read_json(folder.record))
    if read_record(folder.record).outcome == record.outcome:
        return fields.rest()
    return with_checksum(fields.rest("seal") | {"outcome": record.outcome.to_dict()})


def checksum_of(folder: RunDir) -> str:
    """The checksum of a run's record, as in its file."""
    return Fields(read_json(folder.record)).get("seal", str)


def _last(folders: list[RunDir]) -> RunDir:
    """The run that started last and verifies no other; raises InputError where all verify others.

    Runs are read from the youngest second on, as there may be thousands.
    """
    # A name that does not begin with a time says nothing about the start.
    times = {folder: _TIME.match(folder.path.name) for folder in _without_ahead(folders)}
    unnamed = [folder for folder, found in times.items() if found is None and not verifies_another(folder)]
    seconds = sorted({found[0] for found in times.values() if found}, reverse=True)
    for second in seconds:
        named = (folder for folder, found in times.items() if found and found[0] == second)
        if own := [folder for folder in named if not verifies_another(folder)]:
            return _youngest([*own, *unnamed])
    if unnamed:
        return _youngest(unnamed)
    raise InputError(f"there is no last run: all {len(folders)} runs verify others; name one by its id")


def _without_ahead(folders: list[RunDir]) -> list[RunDir]:
    """The runs whose start is not in the future, where there are any: a clock that was ahead once is not for ever."""
    limit = time.time() + _SKEW_SECONDS
    ahead = [folder for folder in folders if _is_ahead(folder, limit) and not verifies_another(folder)]
    rest = [folder for folder in folders if folder not in set(ahead)]
    if not ahead or all(map(verifies_another, rest)):
        return folders
    names = shorten([folder.path.name for folder in ahead], 2)
    log(f"not taken for the last run, as it started in the future by this machine's clock: {names}")
    return rest


def _is_ahead(folder: RunDir, limit: float) -> bool:
    found = _TIME.match(folder.path.name)
    # A name is enough: there may be thousands of records.
    started = _as_iso(found) if found else _started(folder)
    return start_key(folder.path.name, started)[0] > limit


def _as_iso(found: re.Match[str]) -> str:
    return "{}-{}-{}T{}:{}:{}+00:00".format(*found.groups())


def _youngest(folders: list[RunDir]) -> RunDir:
    return max(folders, key=lambda folder: start_key(folder.path.name, _started(folder)))


def verifies_another(folder: RunDir) -> bool:
    """Whether a run, or its folder without one, was made by a verification; a damaged record tells nothing."""
    if os.path.lexists(folder.verification):
        return True
    try:
        return read_summary(folder.record).verifies is not None
    except RecordError:
        return False


def _started(folder: RunDir) -> str:
    try:
        return read_summary(folder.record).started
    except RecordError:
        # By its name, so that a damaged run which is the last is reported, and no other one taken for it.
        found = _TIME.match(folder.path.name)
        return _as_iso(found) if found else ""


def run_dirs(runs: Path) -> list[RunDir]:
    """The folders with a record; one without is a run that is still being prepared."""
    if not os.path.isdir(runs):
        return []
    # `lexists`: a dangling link is a broken run, which is reported and not hidden. There may be thousands, and texts
    # are joined faster than paths.
    record = RunDir(Path()).record.name
    return [RunDir(runs / name) for name in _names(runs) if os.path.lexists(f"{runs}/{name}/{record}")]


def _names(runs: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(runs) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot read {runs}: {error.strerror}; make it readable for you") from error
