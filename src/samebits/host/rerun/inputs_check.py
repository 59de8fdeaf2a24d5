"""Preflight: does this host have the files that a run took from the network, or can it get them?"""

from collections.abc import Iterator

from samebits.core.errors import InputError, SamebitsError, pluralize
from samebits.core.inputs_lock import InputsLock, read_lock
from samebits.core.record import Record
from samebits.core.run_config import REPRODUCIBILITY_LEVELS
from samebits.core.run_dir import RunDir
from samebits.host.inputs.obtain import beside, missing, obtain
from samebits.host.inputs.store import named
from samebits.host.rerun.hardware import PreflightCheck


def inputs_check(run: RunDir, record: Record, *, fetch: bool, offline: bool) -> Iterator[PreflightCheck]:
    """A row for the inputs of a run that has any; `fetch` gets those that are missing."""
    wanted = record.recipe.inputs
    if wanted is None:
        return
    try:
        lock = read_lock(run.inputs)
    except InputError as error:
        yield _row(wanted.short, "none", f"{str(error).partition(';')[0]}; restore the run's folder", blocks=True)
        return
    if lock.digest != wanted:
        reason = f"{run.inputs.name} is not the recorded one; restore the run's folder"
        yield _row(wanted.short, lock.digest.short, reason, blocks=True)
        return
    yield _presence(run, lock, fetch=fetch, offline=offline)


def _presence(run: RunDir, lock: InputsLock, *, fetch: bool, offline: bool) -> PreflightCheck:
    """Whether the files themselves are here, or can be."""
    wanted, gone = lock.digest.short, missing(lock)
    count = f"{len(lock.files) - len(gone)} of {pluralize(len(lock.files), 'file')}"
    if gone and fetch:
        try:
            obtain(gone, beside(run), offline=offline)
        except SamebitsError as error:
            return _row(wanted, count, str(error), blocks=True)
        gone = []
    if not gone:
        return _row(wanted, wanted)
    # A preflight takes seconds, so only `verify` fetches.
    if any(file.url is None for file in gone) and not beside(run):
        reason = f"no URL is known for {named(gone)}; take the files with `samebits fetch --import`"
        return _row(wanted, count, reason, blocks=True)
    return _row(wanted, count, f"`samebits verify` fetches {named(gone)}")


def _row(wanted: str, found: str, reason: str = "", *, blocks: bool = False) -> PreflightCheck:
    blocked = REPRODUCIBILITY_LEVELS if blocks else ()
    return PreflightCheck(name="inputs", wanted=wanted, found=found, reason=reason, blocks=blocked)
