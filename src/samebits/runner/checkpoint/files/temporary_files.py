"""Files outside of the outputs and the working folder: temporary ones are captured, others must not change."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from samebits.core.checkpoint_store import CheckpointStore
from samebits.core.errors import shorten
from samebits.runner.checkpoint.files.output_files import OutputSnapshot, mapped_files
from samebits.runner.checkpoint.state.encoding import UncapturableError

_AUTOGRAPH = "__autograph_generated_file"
"""How the names begin of the modules that TensorFlow writes when it traces; a resumed run writes its own."""
_NO_FILES: Mapping[str, Any] = {"folders": [], "files": [], "links": [], "open": [], "times": []}


def private_temporary_folder(is_bound: Callable[[str], bool]) -> Path | None:
    """The temporary folder of this run alone; None where it may be others', too.

    A run has a home of its own, which takes its temporary files, too.
    """
    folder = Path(tempfile.gettempdir()).absolute()
    return None if folder != Path.home().absolute() or is_bound(str(folder)) else folder


class TemporaryFiles:
    """Captures what changed in the temporary `folder` since training began; a resumed script makes the rest again.

    Without a folder nothing is captured. `written` says how often the script opened each file outside of all folders
    of the run for writing.
    """

    def __init__(self, folder: Path | None, store: CheckpointStore, announce: Callable[[str], None]) -> None:
        self.written: Callable[[], Mapping[str, int]] = dict
        self._written_before: Counter[str] = Counter()
        self._given: dict[str, tuple[int, ...] | None] | None = None
        self._folder = folder or Path()
        # Nothing is removed there: other programs may use it after all.
        self._snapshot = folder and OutputSnapshot(folder, (), store, announce, leave_out=self._is_given, removes=False)

    @property
    def is_private(self) -> bool:
        """Whether the run has a temporary folder of its own."""
        return self._snapshot is not None

    def begin(self) -> None:
        """Note what there is before the first phase of training."""
        if self._given is None:
            self._written_before = Counter(self.written())
            self._given = _marks(self._folder) if self._snapshot else {}

    def capture(self) -> Mapping[str, Any]:
        """The files, as `OutputSnapshot` has them. Raises UncapturableError."""
        written = Counter(self.written()) - self._written_before
        foreign = sorted(path for path in written if os.path.isfile(path))
        if foreign:
            raise UncapturableError(
                f"the script writes {shorten(foreign, 3)} during training, where a resumed run cannot restore it; write"
                " beside the script, to $SAMEBITS_OUTPUT or to tempfile.gettempdir()"
            )
        gone = sorted(name for name in self._given or () if not os.path.lexists(self._folder / name))
        if gone:
            raise UncapturableError(
                f"the script removed the temporary file {shorten(gone, 3)} during training, which a resumed run makes"
                " again; keep it until the end"
            )
        return self._snapshot.capture() if self._snapshot else _NO_FILES

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the files. Raises RecordError for a path outside of the folder."""
        if self._snapshot:
            self._snapshot.restore(dict(state))

    def _is_given(self, relative: str) -> bool:
        """Whether a file was there before training, and is unchanged; or is of no script."""
        if os.path.basename(relative).startswith(_AUTOGRAPH):
            return True
        known = self._given or {}
        with suppress(FileNotFoundError):  # removed meanwhile, which the next capture refuses
            return relative in known and known[relative] in (None, _mark(self._folder / relative))
        return True


def _marks(folder: Path) -> dict[str, tuple[int, ...] | None]:
    """The marks of all files and folders; what vanishes meanwhile, such as another thread's file, has none.

    The mark of a mapped file is one that it will never have: its times may stay when it changes.
    """
    found: dict[str, tuple[int, ...] | None] = {}
    paths = [Path(inner, name) for inner, folders, files in os.walk(folder) for name in (*folders, *files)]
    mapped = mapped_files() if paths else frozenset()
    for path in paths:
        with suppress(FileNotFoundError):
            is_mapped = not mapped.isdisjoint((path.lstat().st_ino, os.path.realpath(path)))
            found[str(path.relative_to(folder))] = () if is_mapped else _mark(path)
    return found


def _mark(path: Path) -> tuple[int, ...] | None:
    """What changes with a file; None for a folder, whose files have marks of their own."""
    found = path.lstat()
    if path.is_dir() and not path.is_symlink():
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
