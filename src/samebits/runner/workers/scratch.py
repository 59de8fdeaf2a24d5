"""The folders of the workers beside the chief: run folders of their own, of which only checkpoints stay."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from samebits.core.deep_folders import remove_tree
from samebits.core.inputs_lock import LOCK_NAME
from samebits.core.jsonio import storage_error
from samebits.core.run_dir import RunDir, WorkerDir
from samebits.core.run_files import read_plain
from samebits.runner.compat.patches import Patches
from samebits.runner.workers.agreement import CHIEF

_GIVEN = ("record.json", "code.jsonl", "data.jsonl", LOCK_NAME)
_SHOWN_LINES = 20
_MAX_BYTES = 64 << 20


class Scratch:
    """The folders of the workers of one run, inside of the run's folder, as the run's limits count them, too."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._folder = run.workers

    def folder(self, index: int) -> WorkerDir:
        """The folder of one worker."""
        return self._run.of_worker(index)

    def make(self, workers: int) -> None:
        """Make the folders; raises StorageError."""
        try:
            for index in range(1, workers):
                self._make(self.folder(index))
        except OSError as error:
            raise storage_error(error, self._folder) from error

    def _make(self, folder: WorkerDir) -> None:
        folder.path.mkdir(parents=True)
        for path in (folder.outputs, folder.models, folder.path / "home"):
            path.mkdir()
        folder.store.folder.mkdir(parents=True, exist_ok=True)
        folder.ledger.touch()
        folder.code.symlink_to(self._run.code)
        folder.image.symlink_to(self._run.image)
        for name in _GIVEN:
            if (self._run.path / name).is_file():
                shutil.copyfile(self._run.path / name, folder.path / name)

    def enter(self, index: int) -> WorkerDir:
        """Have this process, a worker's, write and print nowhere but in its folder."""
        folder = self.folder(index)
        home = str(folder.path / "home")
        os.environ.update(HOME=home, TMPDIR=home, KERAS_HOME=f"{home}/.keras")
        # Another one may be known already.
        Patches().replace(tempfile, "tempdir", None)
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 1)
        with self._messages(index).open("wb") as output:
            os.dup2(output.fileno(), 2)
        return folder

    def _messages(self, index: int) -> Path:
        return self.folder(index).path / "stderr.txt"

    def last_lines(self, index: int) -> list[str]:
        """The end of what a worker printed on stderr."""
        try:
            content = read_plain(self._messages(index), _MAX_BYTES, self._run.path)
            return content.decode("utf-8", "replace").splitlines()[-_SHOWN_LINES:]
        except OSError:
            return []

    def remove(self, *, checkpoints: bool = False) -> None:
        """Remove all of it; where no resumed run needs them, the checkpoints, too."""
        _remove(self._folder)
        if checkpoints:
            _remove(self._run.checkpoints.of_worker(CHIEF).folder.parent)
            with suppress(OSError):  # the chief's are there, or there are none
                self._run.checkpoints.folder.rmdir()


def _remove(folder: Path) -> None:
    with suppress(OSError):
        remove_tree(folder)
