"""Get the files of a lock into the store: from another folder, or from their URLs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samebits.core.errors import InputError, pluralize
from samebits.core.file_tree import Progress
from samebits.core.inputs_lock import InputsLock, PinnedFile
from samebits.core.run_dir import RunDir
from samebits.host.console import hashing_progress, log_progress
from samebits.host.inputs.download import download
from samebits.host.inputs.store import InputStore, named

BESIDE = "inputs"
"""A folder of this name beside a run's folder may hold its inputs, as `samebits fetch --export` writes them."""


def obtain(files: Sequence[PinnedFile], folders: Iterable[Path] = (), *, offline: bool = False) -> list[PinnedFile]:
    """Get files that the store lacks; returns them, with their sizes.

    Raises InputError for those that are in none of the folders and cannot be downloaded.
    """
    store = InputStore()
    take_from(folders, files, store)
    left = [file for file in files if not store.holds(file)]
    unknown = [file for file in left if file.url is None or offline]
    if unknown:
        why = "the network may not be used" if offline else "their URLs are not known"
        raise InputError(
            f"{pluralize(len(unknown), 'input')} not here, and {why}: {named(unknown)}; run `samebits fetch SCRIPT`, or"
            " take them from someone who has them with `samebits fetch --import`"
        )
    _download_all(left, store)
    return [replace(file, size=store.path(file.digest).stat().st_size) for file in files]


def take_from(folders: Iterable[Path], files: Iterable[PinnedFile], store: InputStore) -> None:
    """Copy files from folders that hold them by their paths into the store, where their content is the right one."""
    for folder in folders:
        for file in files:
            path = folder / file.path
            if not store.path(file.digest).exists() and path.is_file():
                store.adopt_copy(path, file)


def beside(run: RunDir) -> tuple[Path, ...]:
    """Folders near a run that may hold its inputs."""
    folder = run.path.absolute().parent / BESIDE
    return (folder,) if folder.is_dir() else ()


def _download_all(files: Sequence[PinnedFile], store: InputStore) -> None:
    """Download files, with one bar for all of them."""
    done, total = 0, sum(file.size or 0 for file in files)
    with hashing_progress("fetching the inputs") as progress:
        for file in files:
            log_progress(f"fetching {file.path} from {file.url}")
            done += download(file, store, _Report(progress, done, total)).size or 0


@dataclass(frozen=True, slots=True)
class _Report:
    """Adds the bytes of one file to those of the files before; of a declared one, only the server knows how many."""

    progress: Progress
    done: int
    total: int

    def __call__(self, have: int, announced: int) -> None:
        self.progress(self.done + have, max(self.total, self.done + max(have, announced)))


def missing(lock: InputsLock) -> list[PinnedFile]:
    """The files of a lock that the store lacks; all others are hashed."""
    with hashing_progress("checking the inputs") as progress:
        return InputStore().missing(lock, progress)
