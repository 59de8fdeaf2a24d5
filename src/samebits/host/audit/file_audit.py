"""Is every file of a run's folder as it was when its record was finalized?

Each file is held against two witnesses: the folder's manifest, which the record names (since record version 1.4), and
the digests that the record itself holds (`recorded_files`). Nothing is executed, and no link is followed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from samebits.core.digest import Digest, confirm_checksum
from samebits.core.errors import RecordError
from samebits.core.folder_manifest import (
    FolderEntry,
    digest_file,
    is_apart,
    is_temporary,
    read_folder_manifest,
    scan_folder,
)
from samebits.core.jsonio import read_json, readable_json
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import MAX_JSON_BYTES, most_bytes, read_plain
from samebits.host.audit.recorded_files import Expected, RecordedFiles

ADDED = "added"
CHANGED = "changed"
REMOVED = "removed"
REWRITTEN = "holds the same values in other bytes than samebits writes"
_INPUTS = ("code/", "image/", "tensors/")
"""Folders of which later commands read whatever is there."""

Reads = Callable[[str], bool]
"""Whether to read a file of that path; all others are judged by what the file system says of them."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class FileChange:
    """One file that is not as recorded: `kind` is added, changed, removed, or what else happened to it."""

    path: str
    kind: str

    @property
    def misleads(self) -> bool:
        """Whether a command must not go on: what it reads, or what the run left behind, is another file now.

        A file that is gone is not used; a checkpoint is checked where it is used, and an earlier one taken.
        """
        if self.path == "files.jsonl":
            return True
        if self.kind in (REMOVED, REWRITTEN) or self.path.startswith("checkpoints/"):
            return False
        return self.path.startswith(_INPUTS) or not (self.kind == ADDED or "executable" in self.kind)

    @property
    def is_note(self) -> bool:
        """Whether it is a file beside the run's own, such as a user's notes."""
        return self.kind == ADDED and "/" not in self.path.removesuffix("/")

    def __str__(self) -> str:
        return f"{self.path} was {self.kind}" if self.kind in (ADDED, CHANGED, REMOVED) else f"{self.path} {self.kind}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileAudit:
    """All changes, sorted by path; `unchecked` are paths that nothing in the record proves. `files` counts all."""

    files: int
    changes: tuple[FileChange, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def damages(self) -> tuple[FileChange, ...]:
        """The changes without files that a user put beside the run's own."""
        return tuple(change for change in self.changes if not change.is_note)

    @property
    def misleading(self) -> tuple[FileChange, ...]:
        """The changes with which no command may go on."""
        return tuple(change for change in self.changes if change.misleads)


def audit_files(run: RunDir, record: Record, reads: Reads = lambda _: True) -> FileAudit:
    """Compare a run's folder with its record; raises RecordError if the folder cannot be read."""
    try:
        found = {entry.path: (entry, path) for entry, path in scan_folder(run.path)}
    except OSError as error:
        raise RecordError(f"cannot read {error.filename or run.path}: {error.strerror}") from error
    folder = _Folder(root=run.path, found=found, reads=reads)
    manifest, changes = _manifest(run, record, folder)
    recorded = RecordedFiles(run, record, folder.entries)
    changes |= folder.compare(recorded.expected) | set(_apart(run, folder.entries))
    changes |= {FileChange(path=path, kind=CHANGED) for path in recorded.changed(reads)}
    if record.finalized:
        changes |= {FileChange(path=path, kind=ADDED) for path in folder.entries if is_temporary(path)}
    if manifest is None:
        changes |= {FileChange(path=path, kind=ADDED) for path in recorded.added}
    else:
        changes |= folder.compare({path: Expected(entry=entry) for path, entry in manifest.items()})
        names = {path for path in folder.entries if not is_apart(path)} - manifest.keys()
        changes |= {FileChange(path=path, kind=ADDED) for path in names}
    unchecked = () if manifest is not None else tuple(sorted(recorded.unchecked))
    return FileAudit(files=len(found), changes=_distinct(changes), unchecked=unchecked)


def require_unchanged(run: RunDir, record: Record, reads: Reads = lambda _: True) -> tuple[FileChange, ...]:
    """Raise RecordError, which names every file with which no command may go on; returns the other changes."""
    found = audit_files(run, record, reads)
    if found.misleading:
        raise RecordError(f"{run.path}: {'; '.join(map(str, found.misleading))}; restore the run's folder")
    return tuple(change for change in found.damages if not change.misleads)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Folder:
    """What is in the folder: each entry with its path on the disk. A file is read once."""

    root: Path
    found: Mapping[str, tuple[FolderEntry, str]]
    reads: Reads
    _digests: dict[str, Digest | None] = field(default_factory=dict)

    @property
    def entries(self) -> dict[str, FolderEntry]:
        return {path: entry for path, (entry, _) in self.found.items()}

    def digest(self, path: str) -> Digest | None:
        if path not in self._digests:
            self._digests[path] = digest_file(self.found[path][1], self.root, most_bytes(path))
        return self._digests[path]

    def compare(self, expected: Mapping[str, Expected]) -> set[FileChange]:
        kinds = ((path, self._kind(path, wanted)) for path, wanted in expected.items())
        return {FileChange(path=path, kind=kind) for path, kind in kinds if kind is not None}

    def _kind(self, path: str, expected: Expected) -> str | None:
        """What happened to one file; None if it is as expected."""
        wanted = expected.entry
        if path not in self.found:
            other = self.found.get(path.removesuffix("/") if path.endswith("/") else f"{path}/")
            return REMOVED if other is None else f"is {other[0].kind} now"
        entry = self.found[path][0]
        if entry.kind != wanted.kind:
            return f"is {entry.kind} now"
        if (entry.link, wanted.size) != (wanted.link, wanted.size if wanted.size is None else entry.size):
            return CHANGED
        if wanted.digest is not None and self.reads(path) and self.digest(path) != wanted.digest:
            return CHANGED
        if expected.modes and entry.executable != wanted.executable:
            return "became executable" if entry.executable else "is not executable any more"
        return None


def _manifest(run: RunDir, record: Record, folder: _Folder) -> tuple[dict[str, FolderEntry] | None, set[FileChange]]:
    """The manifest that the record names; None, and a change, if it is not the one."""
    if record.files is None:
        return None, set()
    late = run.late_records()
    name = late[-1].name.replace("record", "files").replace(".json", ".jsonl") if late else run.manifest.name
    # The manifest is small. It is read whatever the caller reads: without it, nothing else is known.
    whole = _Folder(root=run.path, found=folder.found, reads=lambda _: True)
    wanted = Expected(entry=FolderEntry(path=name, size=None, digest=record.files), modes=False)
    changes = whole.compare({name: wanted})
    if changes:
        return None, changes
    return read_folder_manifest(run.path / name), set()


def _apart(run: RunDir, entries: Mapping[str, FolderEntry]) -> Iterator[FileChange]:
    """Changes of files that the manifest leaves out, and that hold a checksum of their own.

    The checksum is that of the values: spaces and line breaks are compared here.
    """
    for path, entry in entries.items():
        if is_apart(path) and entry.kind != "a file":
            yield FileChange(path=path, kind=f"is {entry.kind} now")
        elif is_apart(path) and entry.executable:
            yield FileChange(path=path, kind="became executable")
    for file in (run.record, run.verification, *run.late_records()):
        if file.name not in entries or entries[file.name].kind != "a file":
            continue
        try:
            value = read_json(file)
            confirm_checksum(value, file.name)
            if readable_json(value) != read_plain(file, MAX_JSON_BYTES):
                yield FileChange(path=file.name, kind=REWRITTEN)
        except (OSError, RecordError):
            yield FileChange(path=file.name, kind=CHANGED)


def _distinct(changes: set[FileChange]) -> tuple[FileChange, ...]:
    """One change for each path: two witnesses may tell the same."""
    found: dict[str, FileChange] = {}
    for change in sorted(changes):
        found.setdefault(change.path, change)
    return tuple(found.values())
