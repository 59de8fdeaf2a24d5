"""`files.jsonl`: every file of a run's folder as it was when its record was finalized, a JSON object per line.

    {"path": "models/0-m.keras", "size": 10, "digest": "sha256:…"}      a file; `"executable": true` where it is
    {"path": "outputs/empty/"}                                          a folder
    {"path": "outputs/latest", "link": "a.txt"}                         a symbolic link, which is never followed
    {"path": "outputs/pipe", "other": "a pipe"}                         anything else

The record names the sha256 of this file. Neither is in it, nor what is written later: a verification, a late record.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import RecordError, reason_of
from samebits.core.jsonio import Fields, canonical_json, parse_json, write_atomically
from samebits.core.run_files import MAX_DEPTH, MAX_FILES, NotPlainFileError, open_plain, plain_sha256, safe_path

_OBJECT_FOLDERS = ("checkpoints/objects/", "tensors/")
"""Here each file is named by its sha256. It was hashed when it was written."""

STAGING = "staging/"
"""What a launcher removes once the record is finalized: left by one that was killed then, it counts as added."""

_APART = re.compile(
    r"record\.json|files\.jsonl|verification\.json|record\.late(-\d+)?\.json|files\.late(-\d+)?\.jsonl"
    r"|\.reserve|\.(record|files|verification)\.[^/]*"
)
_TEMPORARY = re.compile(r"\.reserve|\.(record|files|verification)\.[^/]*")
_MAX_LINE = 1 << 16  # longer than any path that Linux allows
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a device", stat.S_IFCHR: "a device"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderEntry:
    """One name in a run's folder. A folder's path ends in `/`. A file that cannot be read has no digest."""

    path: str
    size: int | None = None
    digest: Digest | None = None
    executable: bool = False
    link: str | None = None
    other: str | None = None

    @property
    def kind(self) -> str:
        """What it is, in a message."""
        if self.path.endswith("/"):
            return "a folder"
        return self.other or ("a file" if self.link is None else "a link")

    def to_dict(self) -> dict[str, object]:
        """As the manifest holds it."""
        values = {"size": self.size, "link": self.link, "other": self.other, "executable": self.executable or None}
        digest = {} if self.digest is None else {"digest": str(self.digest)}
        return {"path": self.path, **{name: value for name, value in values.items() if value is not None}, **digest}

    @classmethod
    def from_dict(cls, value: object) -> "FolderEntry":
        """Read what `to_dict` wrote; raises RecordError."""
        fields = Fields(value)
        return cls(
            path=fields.parse("path", safe_path),
            size=fields.optional("size", int),
            digest=None if fields.optional("digest", str) is None else fields.parse("digest", Digest.parse),
            executable=fields.optional("executable", bool) or False,
            link=fields.optional("link", str),
            other=fields.optional("other", str),
        )


def scan_folder(root: Path) -> Iterator[tuple[FolderEntry, str]]:
    """All names below `root` with their paths on the disk, in no order; no file is opened and no link followed.

    Raises OSError where a folder cannot be read, or there are more of them, or deeper ones, than any run has.
    """
    waiting, count = [("", os.fspath(root))], 0
    while waiting:
        prefix, folder = waiting.pop()
        if prefix.count("/") > MAX_DEPTH:
            raise NotPlainFileError(errno.ENAMETOOLONG, f"folders are nested deeper than {MAX_DEPTH}", folder)
        with os.scandir(folder) as listing:
            for child in listing:
                count += 1
                if count > MAX_FILES:
                    raise NotPlainFileError(errno.EFBIG, f"it holds more than {MAX_FILES} files", os.fspath(root))
                entry = _describe(prefix, child)
                if entry.path.endswith("/"):
                    waiting.append((entry.path, child.path))
                yield entry, child.path


def _describe(prefix: str, child: os.DirEntry[str]) -> FolderEntry:
    path, at = prefix + _text(child.name), child.stat(follow_symlinks=False)
    if stat.S_ISDIR(at.st_mode):
        return FolderEntry(path=f"{path}/")
    if stat.S_ISREG(at.st_mode):
        return FolderEntry(path=path, size=at.st_size, executable=bool(at.st_mode & stat.S_IXUSR))
    if stat.S_ISLNK(at.st_mode):
        return FolderEntry(path=path, link=_text(os.readlink(child.path)))
    return FolderEntry(path=path, other=_KINDS.get(stat.S_IFMT(at.st_mode), "something else"))


def _text(name: str) -> str:
    """A name as text, another one for every name: what is not UTF-8 is escaped, and a backslash doubled."""
    return os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def digest_file(path: str, root: Path | None = None, most: int | None = None) -> Digest | None:
    """The digest of a file's content; None if it cannot be read, is larger, or is no file below `root` (any more)."""
    try:
        return Digest(plain_sha256(Path(path), root, most))
    except OSError:
        return None


def write_folder_manifest(root: Path, target: Path, known: Mapping[str, Digest]) -> Digest:
    """Write the manifest of `root` to `target`, and return its digest.

    `known` holds digests of files by their paths, so that these are not read again. Raises OSError or StorageError.
    """
    entries = []
    for entry, path in scan_folder(root):
        if not (is_apart(entry.path) or entry.path.startswith(STAGING)):
            entries.append(_with_digest(entry, path, known, root))
    entries.sort(key=lambda entry: entry.path.encode())
    content = b"".join(canonical_json(entry.to_dict()) + b"\n" for entry in entries)
    write_atomically(target, content, mode=0o444)
    return Digest.of_bytes(content)


def is_apart(path: str) -> bool:
    """Whether the manifest leaves a name out: it holds a digest of its own, or is there for a moment only."""
    return _APART.fullmatch(path) is not None


def is_temporary(path: str) -> bool:
    """Whether a name is one that a run has only until its record is final."""
    return _TEMPORARY.fullmatch(path) is not None


def _with_digest(entry: FolderEntry, path: str, known: Mapping[str, Digest], root: Path) -> FolderEntry:
    if entry.size is None:
        return entry
    digest = known.get(entry.path) or named_digest(entry.path) or digest_file(path, root)
    return FolderEntry(path=entry.path, size=entry.size, digest=digest, executable=entry.executable)


def named_digest(path: str) -> Digest | None:
    """The digest that a file's own name gives, if it lies where files are named so."""
    folder, _, name = path.rpartition("/")
    if f"{folder}/" not in _OBJECT_FOLDERS:
        return None
    try:
        return Digest.parse(f"sha256:{name}")
    except RecordError:
        return None


def read_folder_manifest(path: Path) -> dict[str, FolderEntry]:
    """The entries of a manifest by path; raises RecordError."""
    found = {}
    try:
        with open_plain(path) as file:
            while line := file.readline(_MAX_LINE):
                entry = FolderEntry.from_dict(parse_json(line))
                found[entry.path] = entry
    except (OSError, ValueError, RecordError) as error:
        raise RecordError(f"cannot read the manifest {path}: {reason_of(error)}") from error
    return found
