"""`samebits unpack`: the files of a capsule as a folder. It appears only after every byte was checked."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from samebits.core.errors import InputError, RecordError, StorageError, shorten
from samebits.core.jsonio import storage_error
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import open_plain
from samebits.host.audit.file_audit import REMOVED, FileChange
from samebits.host.audit.folder_audit import audit_folder
from samebits.host.capsule import contents
from samebits.host.capsule.archive import Archive, Source, transfer
from samebits.host.capsule.blob_store import require_store
from samebits.host.capsule.contents import Contents, Member
from samebits.host.console import hashing_progress
from samebits.host.runs.registry import checksum_of

Write = Callable[[bytes], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """A capsule's files in a folder of ours."""

    folder: Path
    contents: Contents

    @property
    def run(self) -> RunDir:
        """The run."""
        return RunDir(self.folder / contents.RUN)

    @property
    def data(self) -> Path | None:
        """The run's data, if the capsule holds it."""
        folder = self.folder / contents.DATA
        return folder if folder.is_dir() else None


def unpack(capsule: Path, target: Path, store: Path | None = None) -> Unpacked:
    """Unpack into a new folder; raises RecordError, and leaves nothing, where anything is not as it was packed."""
    # A capsule whose name has no ending; "remove it" would be the wrong advice.
    if target.absolute() == capsule.absolute():
        raise InputError(f"{capsule} is the file to unpack; name a folder with -o")
    if os.path.lexists(target):
        raise InputError(f"{target} exists already; remove it, or name another folder with -o")
    if not target.absolute().parent.is_dir():
        raise InputError(f"there is no folder {target.absolute().parent}; create it, or name another with -o")
    with unpacked_beside(capsule, target.absolute().parent, store) as found:
        try:
            os.rename(found.folder, target)
        except OSError as error:
            raise storage_error(error, target) from error
        return Unpacked(folder=target, contents=found.contents)


@contextmanager
def unpacked_beside(capsule: Path, folder: Path, store: Path | None = None) -> Iterator[Unpacked]:
    """A capsule in a temporary folder inside of `folder`; removed at the end."""
    try:
        file = open_plain(capsule)
    except OSError as error:
        raise InputError(f"cannot read {capsule}: {error.strerror}") from error
    with file:
        archive = Archive(file, os.fspath(capsule))
        _require_room(archive.contents, folder)
        with tempfile.TemporaryDirectory(prefix=".samebits-capsule-", dir=folder) as name:
            root = Path(name) / "capsule"
            root.mkdir(mode=0o700)
            found = Unpacked(folder=root, contents=archive.contents)
            try:
                _extract(archive, root, store)
            except OSError as error:
                raise storage_error(error, Path(error.filename or root)) from error
            _check_run(found)
            yield found


def _require_room(found: Contents, folder: Path) -> None:
    """Raise StorageError before anything is written that the disk cannot hold."""
    needed, free = sum(member.size for member in found.members), shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(f"the capsule needs {needed >> 20} MiB and {folder} has {free >> 20}; free some space")


def _extract(archive: Archive, root: Path, store: Path | None) -> None:
    members = archive.contents.members
    done, total = 0, sum(member.size for member in members)
    (root / contents.NAME).write_bytes(archive.contents.content)
    with hashing_progress("checking the capsule") as progress:
        for member, blocks in archive.files():
            with _created(root, member) as write:
                for block in blocks:
                    write(block)
            progress(done := done + member.size, total)
    stored = [member for member in members if member.stored]
    if stored:
        blobs = require_store(store, stored)
        for member in stored:
            with _created(root, member) as write:
                _copy_stored(blobs.blocks(member), write)


def _copy_stored(source: Source, write: Write) -> None:
    try:
        transfer(source, write)
    except InputError as error:
        raise RecordError(f"the store's {source.path} was changed; restore it") from error


@contextmanager
def _created(root: Path, member: Member) -> Iterator[Write]:
    """Create a file, or an empty folder, below a folder that nobody else writes to."""
    path = root / member.path
    if member.is_folder:
        path.mkdir(parents=True)
        yield lambda _: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        yield file.write
        os.fchmod(file.fileno(), 0o755 if member.executable else 0o644)


def _check_run(found: Unpacked) -> None:
    """Raise RecordError unless the run inside is the named one, and as its own record says."""
    audit = audit_folder(found.run)
    if audit.damage is not None:
        raise RecordError(f"the capsule's run: {audit.damage}")
    record = found.run.read()
    _check_names(found.contents, record, checksum_of(found.run))
    changes = [str(change) for change in audit.files.damages if not _is_left_out(found.contents, change)]
    changes += audit.problems
    if changes:
        raise RecordError(f"the capsule's run is not as its record says: {shorten(changes, 3)}; nothing of it is used")


def _check_names(capsule: Contents, record: Record, checksum: str) -> None:
    image = record.recipe.image.config
    found = {
        "run": (capsule.run, record.id),
        "record": (capsule.record, checksum),
        "recipe": (capsule.recipe, str(record.recipe.digest)),
        "result": (capsule.result, None if record.result_digest is None else str(record.result_digest)),
        "image": (capsule.image, None if image is None else str(image)),
    }
    for name, (ours, theirs) in found.items():
        if ours != theirs:
            raise RecordError(f"{contents.NAME} names another {name} than the run's record; nothing of it is used")


def _is_left_out(capsule: Contents, change: FileChange) -> bool:
    """Whether a file is missing because it was not packed."""
    if change.kind != REMOVED:
        return False
    if contents.CHECKPOINTS in capsule.without and change.path.startswith("checkpoints/"):
        return True
    return change.path in capsule.left_out
