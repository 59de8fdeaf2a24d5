"""The inputs of a run: links where the script looks for the files, in folders that it can write to.

The files themselves lie in one folder, which is mounted read-only in a container. Libraries write beside them, into
their caches: those folders are new in each run, and thrown away.
"""

import os
from contextlib import suppress
from pathlib import Path

from samebits.core.code_tree import FILE_TIME
from samebits.core.errors import InputError, SettingError, pluralize, shorten
from samebits.core.file_tree import differing_paths, hash_tree
from samebits.core.folder_manifest import digest_file
from samebits.core.inputs_lock import HOME, LOCK_NAME, WORK, InputsLock, PinnedFile, read_lock
from samebits.core.jsonio import storage_error
from samebits.core.recipe import Recipe
from samebits.core.run_dir import RunDir
from samebits.core.tree_walk import TreeFilter
from samebits.runner.process.console import plain_progress

_VARIABLE = "SAMEBITS_INPUTS"
_MOUNTED = Path("/inputs")
_MOUNT_THEM = f'run `samebits fetch --export runs/inputs` and add -v "$PWD/runs/inputs:{_MOUNTED}:ro" to docker run'
_FETCH = "run `samebits fetch`, then run again"
_MAX_NAMES = 3
_HUGGING_FACE = f"{HOME}/.cache/huggingface/"


def use_mounted(lock: InputsLock | None, folder: Path = _MOUNTED) -> None:
    """Take the inputs of a plain `docker run` from its mount; raises InputError unless they are those of the lock."""
    # No launcher has checked what the variable names.
    os.environ.pop(_VARIABLE, None)
    if lock is None:
        if folder.is_dir():
            raise InputError(
                f"{folder} is mounted, and no {LOCK_NAME} beside the script names its files; mount that, too"
            )
        return
    if not folder.is_dir():
        raise InputError(f"the script needs {pluralize(len(lock.files), 'file')} of {LOCK_NAME}; {_MOUNT_THEM}")
    check_files(lock, folder, f"{folder} does not hold what {LOCK_NAME} names", _MOUNT_THEM)
    os.environ[_VARIABLE] = str(folder)


def check_files(lock: InputsLock, folder: Path, meaning: str, advice: str = _FETCH) -> None:
    """Hash the files of a lock. Raises InputError, which begins with `meaning`, where they are others."""
    # An exported folder holds its lock, too.
    leave_out = TreeFilter(paths=frozenset((LOCK_NAME,)))
    found = hash_tree(folder, "inputs", leave_out=leave_out, progress=plain_progress("checking the inputs"))
    if found.digest != lock.digest:
        paths = differing_paths(lock.tree, found)
        raise InputError(f"{meaning}: {shorten(paths, _MAX_NAMES)}; {advice}")


class PinnedFiles:
    """The files of a run's lock; none where the recipe names no inputs."""

    def __init__(self, folder: RunDir, recipe: Recipe) -> None:
        self.folder: Path | None = None
        self._files: dict[Path, PinnedFile] = {}
        # The script has no use for the variable.
        source = os.environ.pop(_VARIABLE, "")
        if recipe.inputs is None:
            return
        self._lock = read_lock(folder.inputs)
        if self._lock.digest != recipe.inputs:
            raise InputError(f"{folder.inputs} is not the lock that the recipe names; run again")
        if not source:
            raise SettingError(f"the recipe names inputs, and {_VARIABLE} names no folder of them; use samebits train")
        self.folder = Path(source)
        # Asked for once: the script may set another home.
        roots = {HOME: Path.home(), WORK: folder.work}
        for file in self._lock.files:
            root, _, rest = file.path.partition("/")
            self._files[roots[root] / rest] = file

    def place(self) -> None:
        """Link every file into the home folder, or the script's; call it before libraries. Raises StorageError."""
        if any(file.path.startswith(_HUGGING_FACE) for file in self._files.values()):
            # Its library asks the network for a newer version first, and waits.
            os.environ["HF_HUB_OFFLINE"] = "1"
        for path, file in self._files.items():
            try:
                self._make_folders(path.parent)
                path.symlink_to(self._source(file))
                os.utime(path, (FILE_TIME, FILE_TIME), follow_symlinks=False)
                # In a container, the home folder itself belongs to the system.
                with suppress(PermissionError):
                    os.utime(path.parent, (FILE_TIME, FILE_TIME))
            except OSError as error:
                raise storage_error(error, path) from error

    def _make_folders(self, folder: Path) -> None:
        for new in [path for path in (folder, *folder.parents) if not path.exists()][::-1]:
            new.mkdir()
            os.utime(new, (FILE_TIME, FILE_TIME))

    def is_link(self, path: Path) -> bool:
        """Whether a path is still the link that `place` made."""
        file = self._files.get(path)
        return file is not None and path.is_symlink() and os.readlink(path) == self._source(file)

    def check(self) -> None:
        """Hash the files again. Raises InputError where one changed, or the script replaced one by another content."""
        if self.folder is None:
            return
        check_files(self._lock, self.folder, "an input changed during the run")
        replaced = [
            file.path
            for path, file in self._files.items()
            if os.path.lexists(path) and not self.is_link(path) and digest_file(os.fspath(path)) != file.digest
        ]
        if replaced:
            raise InputError(
                f"the script replaced inputs: {shorten(replaced, _MAX_NAMES)}; the result does not belong to the"
                " recipe; run `samebits fetch SCRIPT`, then run again"
            )

    def _source(self, file: PinnedFile) -> str:
        return os.path.join(self.folder or "", file.path)
