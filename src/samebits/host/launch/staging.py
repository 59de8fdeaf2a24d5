"""What a container may write while a run lasts: a folder of its own within the run's, which it does not see itself.

There the runner, of whatever version, finds what it expects of a run's folder. The script shares the runner's process,
so nothing there is believed: `kept_run` takes it over, piece by piece.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from samebits.core.deep_folders import remove_tree
from samebits.core.errors import ImageError
from samebits.core.inputs_lock import LOCK_NAME
from samebits.core.jsonio import storage_error
from samebits.core.recipe import ImageIdentity
from samebits.core.run_dir import RunDir
from samebits.core.run_files import copy_plain, plain_files
from samebits.host.image.build_context import check_kept
from samebits.host.launch.tidy import take_rights

_GIVEN = ("record.json", "ledger.jsonl", "code.jsonl", "data.jsonl", LOCK_NAME)
_FILLED = ("outputs", "models", "checkpoints")
_LEFT = ("tensors", "work")
"""Folders that are there at the end only if the run made them."""


def path_in_container(folder: RunDir) -> Path:
    """Where the container sees the run's folder: a plain `docker run` has its runs there, too."""
    return Path("/runs") / folder.path.name


def has_staging(folder: RunDir) -> bool:
    """Whether a run has such a folder, which is no link."""
    return os.path.lexists(folder.staging) and stat.S_ISDIR(os.lstat(folder.staging).st_mode)


def make_staging(folder: RunDir) -> RunDir:
    """The folder for the container of a prepared run, which gets the run's own folders; raises StorageError."""
    inside = RunDir(folder.staging)
    try:
        inside.path.mkdir(mode=0o700)
        inside.code.mkdir()  # the code is mounted there
        for name in _FILLED:
            if (folder.path / name).is_dir():
                os.rename(folder.path / name, inside.path / name)
        for name in _GIVEN:
            if (folder.path / name).is_file():
                shutil.copyfile(folder.path / name, inside.path / name)
        inside.reserve_space()
    except OSError as error:
        raise storage_error(error, inside.path) from error
    return inside


def take_image(folder: RunDir, recorded: ImageIdentity) -> None:
    """Take over what the image was built from, once the runner has copied it, and before a script runs.

    Raises ImageError where it is not what the recipe names.
    """
    inside = RunDir(folder.staging)
    if folder.image.exists() or not os.path.lexists(inside.image):
        return
    try:
        # A new name: whoever sent the run may have put a link where a known one would be.
        with tempfile.TemporaryDirectory(dir=folder.path, prefix=".image-", ignore_cleanup_errors=True) as draft:
            _copy_image(inside, Path(draft))
            check_kept(Path(draft, inside.image.name), recorded)
            Path(draft, inside.image.name).rename(folder.image)
    except OSError as error:
        raise ImageError(f"the run's copy of what its image was built from cannot be read: {error}") from error


def _copy_image(inside: RunDir, draft: Path) -> None:
    for path in plain_files(inside.path, inside.image.name):
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        copy_plain(inside.path / path, inside.path, draft / path)


def take_results(folder: RunDir) -> None:
    """Move what the script left to where it belongs; raises StorageError. No process of the run may be left."""
    inside = RunDir(folder.staging)
    take_rights(inside.path)
    try:
        for name in (*_FILLED, *_LEFT):
            _move(inside.path / name, folder.path / name, stat.S_ISDIR)
        _move(inside.log, folder.log, stat.S_ISREG)
        # A run without results has the folders, too.
        for made in (folder.outputs, folder.models):
            made.mkdir(exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder.path) from error


def _move(source: Path, target: Path, is_kind: Callable[[int], bool]) -> None:
    """Move a file or folder of one kind, where it is there and nothing has its name."""
    if os.path.lexists(source) and is_kind(os.lstat(source).st_mode) and not os.path.lexists(target):
        os.rename(source, target)


def remove_staging(folder: RunDir) -> None:
    """Remove what is left, once everything was taken over."""
    with suppress(OSError):
        remove_tree(folder.staging)
