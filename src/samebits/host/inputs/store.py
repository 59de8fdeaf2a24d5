"""The store of inputs: each file once, named by its sha256, and checked by it whenever it is used.

In the folder `inputs` of the cache:

    objects/<sha256>    read-only files
    trees/<digest>/     the files of one lock by their paths, as links to those
    partial/<sha256>    downloads that were interrupted
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from samebits.core.code_tree import FILE_TIME
from samebits.core.digest import Digest
from samebits.core.errors import InputError, StorageError, shorten
from samebits.core.file_tree import Progress
from samebits.core.folder_manifest import digest_file
from samebits.core.inputs_lock import InputsLock, PinnedFile, read_lock
from samebits.core.jsonio import storage_error
from samebits.core.run_dir import RunDir
from samebits.host.cache_dir import cache_folder, exclusive
from samebits.host.console import log

_MAX_NAMES = 3


class InputStore:
    """All inputs of this user."""

    def __init__(self) -> None:
        self._root = cache_folder("inputs")
        self._root.chmod(0o700)
        for name in ("objects", "partial", "trees"):
            (self._root / name).mkdir(exist_ok=True)

    def partial(self, digest: Digest) -> Path:
        """Where a download of a file is kept until it is complete."""
        return self._root / "partial" / digest.hex

    def draft(self) -> Path:
        """A new folder beside the files, from which files can be adopted without a copy."""
        return Path(tempfile.mkdtemp(dir=self._root, prefix=".draft-"))

    def path(self, digest: Digest) -> Path:
        """Where a file is, if it is here."""
        return self._root / "objects" / digest.hex

    def holds(self, file: PinnedFile) -> bool:
        """Whether a file is here and has its digest. One that was changed is removed, with a message."""
        path = self.path(file.digest)
        if not os.path.lexists(path):
            return False
        if digest_file(os.fspath(path)) == file.digest:
            return file.size in (None, path.stat().st_size)
        log(f"{path} was changed after it was stored; removing it")
        path.unlink()
        return False

    def missing(self, lock: InputsLock, progress: Progress | None = None) -> list[PinnedFile]:
        """The files of a lock that are not here, after all that are here were hashed."""
        done, missing = 0, []
        for file in lock.files:
            if not self.holds(file):
                missing.append(file)
            done += file.size or 0
            if progress is not None:
                progress(done, lock.size)
        return missing

    def adopt(self, path: Path) -> Digest:
        """Move a file, which nobody writes to any more, into the store; returns its digest. Raises StorageError."""
        digest = digest_file(os.fspath(path))
        if digest is None:
            raise StorageError(f"cannot read {path}; make it readable for you")
        try:
            path.chmod(0o444)
            os.utime(path, (FILE_TIME, FILE_TIME))
            os.replace(path, self.path(digest))
        except OSError as error:
            raise storage_error(error, self.path(digest)) from error
        return digest

    def adopt_copy(self, path: Path, wanted: PinnedFile) -> bool:
        """Copy a file of another folder into the store if it has the wanted content."""
        draft = self._root / "partial" / f".{wanted.digest.hex}.{os.getpid()}"
        try:
            # Hashed after it was copied: what is hashed is what is kept.
            shutil.copyfile(path, draft)
            if digest_file(os.fspath(draft)) != wanted.digest:
                return False
            self.adopt(draft)
        except OSError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def tree(self, lock: InputsLock) -> Path:
        """The folder of a lock's files, which must be in the store; raises StorageError."""
        trees, name = self._root / "trees", lock.digest.hex
        with exclusive(trees, name):
            target = trees / name
            if target.is_dir() and not self._is_linked(target, lock):
                shutil.rmtree(target)
            if not target.exists():
                self._link(target, lock)
        return target

    def _is_linked(self, target: Path, lock: InputsLock) -> bool:
        """Whether a tree holds these very files of the store and no other."""
        found = {path: at.st_ino for path, at in _files(target)}
        try:
            return found == {file.path: self.path(file.digest).stat().st_ino for file in lock.files}
        except OSError:
            return False

    def _link(self, target: Path, lock: InputsLock) -> None:
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft-"))
        try:
            for file in lock.files:
                path = draft / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(self.path(file.digest), path)
            draft.chmod(0o755)
            os.rename(draft, target)
        except OSError as error:
            raise storage_error(error, target) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with suppress(OSError):
                yield os.path.relpath(path, folder), os.lstat(path)


def provide(lock: InputsLock, progress: Progress | None = None) -> Path:
    """The folder with the files of a lock, each checked by its digest; raises InputError for missing ones."""
    store = InputStore()
    if missing := store.missing(lock, progress):
        raise InputError(
            f"{len(missing)} of {len(lock.files)} inputs are not here: {named(missing)}; run `samebits fetch`"
        )
    return store.tree(lock)


def folder_of(run: RunDir) -> Path | None:
    """The folder with the inputs of a run that is about to start; None if it has none."""
    return InputStore().tree(read_lock(run.inputs)) if run.inputs.exists() else None


def named(files: list[PinnedFile]) -> str:
    """The first paths, and how many more."""
    return shorten([file.path for file in files], _MAX_NAMES)
