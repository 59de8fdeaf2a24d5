"""The content of a folder as a manifest of file digests, and the digest of that manifest.

The manifest is JSON lines, one per file, sorted by the UTF-8 bytes of the paths. The tree's digest is the sha256 of the
manifest, so `sha256sum data.jsonl` checks it. Symbolic links count as their targets. Empty folders count, because
loaders derive classes from folder names. Times, owners and modes do not count, except that a tree of code holds which
files are executable.
"""

import fnmatch
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader, FileIO
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields, canonical_json, differing_names, write_atomically
from samebits.core.run_files import MAX_MANIFEST_BYTES, open_plain, read_plain, safe_path

_READ_BYTES = 1 << 20
_MAX_LINKS = 40  # Linux follows no more symbolic links in one path

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in total) while a tree is hashed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeEntry:
    """One file: relative path, size in bytes, digest. An empty folder has a path that ends in `/`, and no digest.

    `executable` is False wherever a tree does not hold modes.
    """

    path: str
    size: int = 0
    digest: Digest | None = None
    executable: bool = False

    def to_dict(self) -> dict[str, object]:
        """As the manifest stores it."""
        if self.digest is None:
            return {"path": self.path}
        # Written only where it is set: the line of any other file is that of earlier versions.
        mode = {"executable": True} if self.executable else {}
        return {"path": self.path, "size": self.size, "digest": str(self.digest), **mode}

    @classmethod
    def from_dict(cls, value: object) -> "TreeEntry":
        """Parse one line of a manifest; raises RecordError."""
        fields = Fields(value)
        digest = fields.optional("digest", str)
        return cls(
            path=fields.parse("path", safe_path),
            size=fields.optional("size", int) or 0,
            digest=None if digest is None else Digest.parse(digest),
            executable=fields.optional("executable", bool) or False,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """The files of a folder, sorted by path; `modes` says whether it holds which files are executable."""

    entries: tuple[TreeEntry, ...]
    modes: bool = field(default=False, compare=False)

    @property
    def manifest(self) -> bytes:
        """The JSON lines that the digest covers."""
        return b"".join(canonical_json(entry.to_dict()) + b"\n" for entry in self.entries)

    @property
    def digest(self) -> Digest:
        """The digest of the folder's content."""
        return Digest.of_bytes(self.manifest)

    @property
    def size(self) -> int:
        """The total size of all files in bytes."""
        return sum(entry.size for entry in self.entries)

    def write(self, path: Path) -> None:
        """Write the manifest to a file."""
        write_atomically(path, self.manifest)


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeFilter:
    """What to leave out of a tree.

    `patterns` are globs on relative paths or names, `paths` are relative paths; `hidden` leaves out names with a
    leading dot. Two kinds of folders are skipped: those in `folders`, and those that contain a file named in `markers`.
    Without `links` a link is an error: in a run's own copy there are none.
    """

    patterns: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    markers: tuple[str, ...] = ()
    paths: frozenset[str] = frozenset()
    hidden: bool = False
    links: bool = True
    _identities: frozenset[tuple[int, int]] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        # By device and inode, because a folder has another path inside a container.
        object.__setattr__(self, "_identities", frozenset(filter(None, map(_identity, self.folders))))

    def names(self, relative: str) -> bool:
        """Whether to leave out a path because of its name."""
        name = relative.rpartition("/")[2]
        if relative in self.paths or (self.hidden and name.startswith(".")):
            return True
        return any(fnmatch.fnmatchcase(relative, p) or fnmatch.fnmatchcase(name, p) for p in self.patterns)

    def holds_folder(self, path: str, at: os.stat_result) -> bool:
        """Whether to leave out a folder because it is one of `folders`, or holds a marker file."""
        return (at.st_dev, at.st_ino) in self._identities or any(os.path.exists(f"{path}/{m}") for m in self.markers)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode; None if the folder is missing or unreadable."""
    try:
        at = os.stat(folder)
    except OSError:
        return None
    return at.st_dev, at.st_ino


def read_manifest(path: Path) -> Tree:
    """Read a manifest that `Tree.write` wrote; raises RecordError."""
    try:
        lines = read_plain(path, MAX_MANIFEST_BYTES).splitlines()
        return Tree(entries=tuple(TreeEntry.from_dict(json.loads(line)) for line in lines))
    except (OSError, ValueError, RecordError, RecursionError) as error:
        raise RecordError(f"cannot read the manifest {path}: {error}") from error


def differing_paths(before: Tree, after: Tree) -> list[str]:
    """All paths that were added, removed or changed between two trees, sorted."""
    old = {entry.path: entry for entry in before.entries}
    new = {entry.path: entry for entry in after.entries}
    return differing_names(old, new)


def list_tree(root: Path, what: str, leave_out: TreeFilter | None = None) -> list[tuple[str, str, int]]:
    """All files of `root` as (relative path, path, size), sorted; an empty folder is (`name/`, "", 0).

    `what` names the tree in messages, such as "data". Raises InputError for anything that another machine could not
    reproduce: a link that leaves the tree or loops, a socket, a name that is not UTF-8, an unreadable file.
    """
    try:
        is_folder = stat.S_ISDIR(os.stat(root).st_mode)
    except FileNotFoundError:
        raise InputError(f"the {what} folder {root} does not exist; name a folder that holds the {what}") from None
    except OSError as error:
        raise InputError(f"cannot read {root}: {error.strerror}; make it readable for you") from error
    if not is_folder:
        raise InputError(f"the {what} folder {root} is not a folder; name a folder that holds the {what}")
    # The root may itself be a link; what it links to is the folder.
    walk = _TreeWalk(os.path.realpath(root), what, leave_out or TreeFilter())
    return sorted(walk.files(), key=lambda item: item[0].encode())


def hash_tree(
    root: Path,
    what: str,
    *,
    leave_out: TreeFilter | None = None,
    progress: Progress | None = None,
    modes: bool = False,
) -> Tree:
    """Read every file of `root` once and return its tree; `list_tree` says what raises InputError.

    With `modes`, the tree holds which files their owner may execute.
    """
    files = list_tree(root, what, leave_out)
    within = None if leave_out is None or leave_out.links else Path(os.path.realpath(root))
    hasher = _FileHasher(progress, sum(item[2] for item in files), modes=modes, within=within)
    return Tree(entries=tuple(hasher.entry(relative, path) for relative, path, _ in files), modes=modes)


_Ancestors = tuple[tuple[int, int], ...]
"""The identities of the folders on the way from the root to a folder."""


class _TreeWalk:
    """Lists the files of one tree."""

    def __init__(self, root: str, what: str, leave_out: TreeFilter) -> None:
        self.root = root
        self._what = what
        self._leave_out = leave_out

    def files(self) -> Iterator[tuple[str, str, int]]:
        """All files below the root, unordered. Not recursive, as folders may nest deeper than Python's call stack."""
        waiting: list[tuple[str, str, _Ancestors]] = [("", self.root, ())]
        while waiting:
            prefix, path, ancestors = waiting.pop()
            here, children = self._open(path)
            # A link to a folder above would be listed without end.
            if here in ancestors:
                raise InputError(f"the {self._what} folder holds a link that loops: {path}; remove the link")
            # The root itself needs no entry.
            if not children and prefix:
                yield prefix, "", 0
            for child in children:
                relative = f"{prefix}{child.name}"
                at = self._checked_stat(relative, child)
                if at is None:
                    continue
                if stat.S_ISDIR(at.st_mode):
                    waiting.append((f"{relative}/", child.path, (*ancestors, here)))
                else:
                    yield relative, child.path, at.st_size

    def _open(self, path: str) -> tuple[tuple[int, int], list[os.DirEntry[str]]]:
        """The identity and the entries of a folder."""
        try:
            at = os.stat(path)
            with os.scandir(path) as listing:
                return (at.st_dev, at.st_ino), list(listing)
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _checked_stat(self, relative: str, child: os.DirEntry[str]) -> os.stat_result | None:
        """The child's status; None if it is left out. Raises InputError if it cannot be part of a tree."""
        self._check_name(relative)
        # A name that is left out may be anything, so its link is not checked.
        if self._leave_out.names(relative):
            return None
        # Checked before `stat`, which follows the link.
        if child.is_symlink():
            if not self._leave_out.links:
                raise InputError(f"the {self._what} folder holds a link: {child.path}")
            if self._leads_to_left_out(child):
                return None
            self._check_link(relative, child.path)
        try:
            at = child.stat()
        except OSError as error:
            raise self._unreadable(child.path, error) from error
        if stat.S_ISDIR(at.st_mode):
            return None if self._leave_out.holds_folder(child.path, at) else at
        if stat.S_ISREG(at.st_mode):
            return at
        raise InputError(
            f"the {self._what} folder holds {child.path}, which is neither a file nor a folder"
            " (a socket, a pipe or a device); remove it"
        )

    def _check_name(self, relative: str) -> None:
        try:
            relative.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(relative)
            raise InputError(f"the {self._what} folder holds a name that is not UTF-8: {shown!r}; rename it") from None

    def _leads_to_left_out(self, child: os.DirEntry[str]) -> bool:
        """Whether a link leads to a folder that is left out, wherever that is: `data` may be such a link."""
        with suppress(OSError):
            at = child.stat()
            return stat.S_ISDIR(at.st_mode) and self._leave_out.holds_folder(child.path, at)
        return False

    def _check_link(self, relative: str, path: str) -> None:
        """Raise InputError unless a link and every link on its way stay inside the tree."""
        if not self._stays_inside(relative):
            raise InputError(
                f"the {self._what} folder holds a link that leaves it: {path} -> {os.readlink(path)};"
                " put the file itself there, or a relative link within the folder"
            )

    def _stays_inside(self, relative: str) -> bool:
        """Whether a path never leaves the root; its links are resolved part by part.

        A path that leaves the root and comes back by its name is not inside: in a container the root has another name.
        """
        here: list[str] = []
        parts = relative.split("/")[::-1]
        links = 0
        while parts and links < _MAX_LINKS:
            part = parts.pop()
            if part == ".." and not here:
                return False
            if part in {"", ".", ".."}:
                del here[len(here) - (part == "..") :]
                continue
            here.append(part)
            # Links are resolved by hand: `realpath` would hide that a path left the root and came back.
            path = "/".join([self.root, *here])
            if os.path.islink(path):
                target = os.readlink(path)
                # An absolute target lies elsewhere once the folder is mounted in a container.
                if os.path.isabs(target):
                    return False
                links += 1
                here.pop()
                parts += target.split("/")[::-1]
        return True  # opening the path later reports an endless chain of links

    def _unreadable(self, path: str, error: OSError) -> InputError:
        if isinstance(error, FileNotFoundError):
            return InputError(f"the {self._what} folder holds a link to nothing: {path}; remove or repair the link")
        if "symbolic links" in (error.strerror or ""):
            return InputError(f"the {self._what} folder holds a link that loops: {path}; remove the link")
        return InputError(f"cannot read {path}: {error.strerror}; make it readable for you")


class _FileHasher:
    """Hashes files through one buffer, and reports how far it is."""

    def __init__(self, progress: Progress | None, total: int, *, modes: bool, within: Path | None) -> None:
        self._progress = progress
        self._within = within
        self._modes = modes
        # One buffer for all files avoids an allocation for each read.
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._done = 0
        self._total = total

    def entry(self, relative: str, path: str) -> TreeEntry:
        """Hash one listed file; the entry's size is the number of bytes read."""
        if not path:
            return TreeEntry(path=relative)
        state = hashlib.sha256()
        size = 0
        try:
            with self._open(path) as file:
                executable = self._modes and bool(os.fstat(file.fileno()).st_mode & stat.S_IXUSR)
                while count := file.readinto(self._buffer):
                    state.update(self._buffer[:count])
                    size += count
                    self._report(count)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; make it readable for you") from error
        return TreeEntry(path=relative, size=size, digest=Digest(state.hexdigest()), executable=executable)

    def _open(self, path: str) -> BufferedReader | FileIO:
        # Unbuffered: the reads are large already.
        return open(path, "rb", buffering=0) if self._within is None else open_plain(Path(path), self._within)

    def _report(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)
