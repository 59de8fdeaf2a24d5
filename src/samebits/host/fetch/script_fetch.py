"""`samebits fetch`: run a script with the network on, up to its first training step, and pin what it downloads."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import EngineError, InputError, shorten
from samebits.core.inputs_lock import LOCK_NAME, InputsLock, PinnedFile, find_lock, read_lock
from samebits.core.jsonio import storage_error
from samebits.core.project import CONFIG_NAME
from samebits.core.record import FAILED, Record, read_record
from samebits.core.retention import NONE
from samebits.core.run_config import RunConfig, read_config
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import plan_run, publish
from samebits.core.trace_level import Trace
from samebits.core.trial import Trial
from samebits.host.console import hashing_progress, log, log_progress
from samebits.host.fetch.found_files import FetchReport, FoundFile, find_inputs, prepared_urls
from samebits.host.inputs.network import REPORT, SCRATCH
from samebits.host.inputs.obtain import missing, obtain, take_from
from samebits.host.inputs.store import InputStore
from samebits.host.launch.run_limits import USUAL, limited
from samebits.host.launch.runtime import Runtime, choose_runtime

_MAX_NAMES = 5
_QUESTIONS = ("https://huggingface.co/api/",)
"""What is asked here is which version there is. A run takes the one that is pinned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchOptions:
    """`whole` runs the script to its end; `unpacked` also pins what it unpacks; `update` replaces the lock."""

    whole: bool = False
    unpacked: bool = False
    update: bool = False


def fetch_script(spec: RunConfig, options: FetchOptions) -> tuple[Path, InputsLock]:
    """Run a script, pin what it downloads, and write the lock beside it; returns the lock and its path.

    Raises InputError if the script fails, or downloads something else than the lock that is there holds.
    """
    # One process asks for the same files as several.
    spec = replace(spec, workers=1)
    path = find_lock(spec.script.parent, spec.code_folder)
    old = read_lock(path) if os.path.lexists(path) else InputsLock(files=())
    declared = InputsLock.of(_obtained(declared_inputs(spec.code_folder)))
    found = _run_and_pin(spec, declared, options)
    new = _merged(declared, found)
    if not options.update:
        new = _with_others(old, new, path)
    if new.files:
        new.write(path)
    return path, new


def _merged(first: InputsLock, more: Iterable[PinnedFile]) -> InputsLock:
    """The files of a lock, and those of others that it does not hold."""
    paths = {file.path for file in first.files}
    return InputsLock.of([*first.files, *(file for file in more if file.path not in paths)])


def _with_others(old: InputsLock, new: InputsLock, path: Path) -> InputsLock:
    """With the files that other scripts beside this one need; raises InputError where a file is another one now."""
    now = {file.path: file for file in new.files}
    changed = [file.path for file in old.files if file.path in now and now[file.path].digest != file.digest]
    if changed:
        raise InputError(
            f"the script fetches something else than {path} holds: {shorten(changed, _MAX_NAMES)}; add --update to pin"
            " that"
        )
    if old.files and (added := sorted(now.keys() - {file.path for file in old.files})):
        log(f"new in {path}: {shorten(added, _MAX_NAMES)}")
    if kept := [file.path for file in old.files if file.path not in now]:
        log(f"not fetched by this script, and kept in {path}: {shorten(kept, _MAX_NAMES)}; --update removes them")
    return _merged(new, old.files)


def declared_inputs(folder: Path) -> tuple[PinnedFile, ...]:
    """The files that a `samebits.toml` declares."""
    return tuple(read_config(folder / CONFIG_NAME).get("inputs", ()))


def fetch_locked(path: Path, root: Path) -> InputsLock:
    """Get the files of a lock, and those that the `samebits.toml` in the code's folder declares; returns the lock.

    Raises InputError if there are none, or one cannot be had.
    """
    declared = declared_inputs(root)
    if not os.path.lexists(path) and not declared:
        raise InputError(f"there is no {path}; `samebits fetch SCRIPT` writes it")
    lock = read_lock(path) if os.path.lexists(path) else InputsLock(files=())
    if gone := missing(lock):
        obtain(gone)
    new = _merged(InputsLock.of(_obtained(declared)), lock.files)
    if new != lock:
        new.write(path)
    return new


def export_inputs(lock: InputsLock, folder: Path) -> None:
    """Write all files of a lock, which must be in the store, into a folder by their paths, with the lock."""
    store = InputStore()
    try:
        for file in lock.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(store.path(file.digest), target)
            target.chmod(0o644)
    except OSError as error:
        raise storage_error(error, folder) from error
    lock.write(folder / LOCK_NAME)


def import_inputs(source: Path, lock: InputsLock) -> list[PinnedFile]:
    """Take the files of a lock from a folder that `export_inputs` wrote; returns those that are still missing."""
    gone, store = missing(lock), InputStore()
    take_from([source], gone, store)
    return [file for file in gone if not store.path(file.digest).exists()]


def _obtained(files: Sequence[PinnedFile]) -> tuple[PinnedFile, ...]:
    """Declared files with their sizes; those that are missing are downloaded."""
    store = InputStore()
    if gone := [file for file in files if not store.holds(file)]:
        obtain(gone)
    return tuple(replace(file, size=store.path(file.digest).stat().st_size) for file in files)


def _run_and_pin(spec: RunConfig, declared: InputsLock, options: FetchOptions) -> list[PinnedFile]:
    """Run the script in a folder that is removed, and take its downloads into the store."""
    runtime = choose_runtime(spec)
    store = InputStore()
    with _draft(store) as draft:
        home = draft / "home"
        home.mkdir()
        folder = _run(spec, runtime, draft, home, declared=declared, whole=options.whole)
        _require_success(read_record(folder.record), contained=runtime.setup.environment.in_container)
        report = FetchReport.read(home / SCRATCH / REPORT)
        inside = "/tmp" if runtime.setup.environment.in_container else str(home)  # noqa: S108
        found = find_inputs(home, inside, folder.outputs, report, unpacked=options.unpacked)
        require_whole(found, report)
        _name_unpinned(report, {file.url for file in found} | prepared_urls(home, report))
        return adopt(found, store)


@contextmanager
def _draft(store: InputStore) -> Iterator[Path]:
    draft = store.draft()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _run(spec: RunConfig, runtime: Runtime, draft: Path, home: Path, *, declared: InputsLock, whole: bool) -> RunDir:
    """One run of the script, to its first training step."""
    if runtime.fetch is None:
        raise EngineError("this runtime cannot fetch; use a container engine or --runtime venv")
    short = replace(
        spec,
        runs=draft / "runs",
        trial=None if whole else Trial(steps=1),
        trace=Trace(),
        keep=NONE,
        checkpoint_every=None,
        strict=False,
    )
    runtime.prepare()
    with hashing_progress("hashing the data") as progress:
        planned = plan_run(short, runtime.setup, progress)
    # The script sees the declared files alone: all others it fetches again.
    inputs = declared if declared.files else None
    recipe = replace(planned.recipe, inputs=None if inputs is None else inputs.digest)
    folder, _ = publish(replace(planned, inputs=inputs, recipe=recipe))
    log_progress(
        f"running {spec.script} with the network on, {'to its end' if whole else 'up to its first training step'}"
    )
    with limited(draft, USUAL):
        runtime.fetch(folder, short, home)
    return folder


def _require_success(record: Record, *, contained: bool) -> None:
    if not record.finalized:
        raise InputError("the script's process died before its first training step; nothing was pinned")
    if record.outcome.state != FAILED:
        return
    message = record.outcome.message
    # The record does not hold which host was asked.
    if contained and "Connection refused" in str(message):
        raise InputError(
            f"{message}; nothing was pinned. In a container, localhost is the container's own: if the script asks"
            " yours, use --runtime venv, or declare the file as [[inputs]] in samebits.toml"
        )
    raise InputError(f"{message}; nothing was pinned, fix that and run `samebits fetch` again")


def require_whole(found: Iterable[FoundFile], report: FetchReport) -> None:
    """Raise InputError where the script stored only the beginning of a file, as its library did not notice."""
    if cut := [f"{file.path} from {file.url}" for file in found if file.sha256 in report.partial]:
        raise InputError(
            f"the download stopped early, and the script stored what had come: {shorten(cut, _MAX_NAMES)}; nothing was"
            " pinned, run `samebits fetch` again"
        )


def adopt(found: Iterable[FoundFile], store: InputStore) -> list[PinnedFile]:
    """Take files into the store; those that are no links are moved there."""
    # Links first, as each leads to one of the others: so it is in Hugging Face's cache.
    return [_adopted(file, store) for file in sorted(found, key=lambda file: not file.at.is_symlink())]


def _adopted(file: FoundFile, store: InputStore) -> PinnedFile:
    digest = Digest(file.sha256)
    size = file.at.stat().st_size
    pinned = PinnedFile(path=file.path, digest=digest, size=size, url=file.url)
    if not store.holds(pinned):
        # Of a link, and of a file with two names, every name gets the content.
        if file.at.is_symlink() or file.at.stat().st_nlink > 1:
            store.adopt_copy(file.at, pinned)
        else:
            store.adopt(file.at)
    return pinned


def _name_unpinned(report: FetchReport, pinned: set[str | None]) -> None:
    """Say what was downloaded and is in no file: a run would ask the network for it again."""
    left = sorted({url for url in report.urls.values() if url not in pinned and not url.startswith(_QUESTIONS)})
    if left:
        log(
            f"not pinned, as it is no file in the script's folder or home: {shorten(left, _MAX_NAMES)}; a run has no"
            " network, so have it stored first, as keras.utils.get_file does"
        )
