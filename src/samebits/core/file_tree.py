"""A folder as a list of its files' digests; the digest of that list names the folder's content.

The manifest is JSON lines, one file a line, in the order of their paths' UTF-8 bytes. The tree's digest is the sha256
of the manifest's bytes, so that `sha256sum data.jsonl` checks it. Symbolic links count as what they lead to; empty
folders count, as loaders take classes from folder names. Times, owners and modes do not.
"""

import fnmatch
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields, canonical_json, differing_names, write_atomically

_BLOCK = 1 << 20  # bytes read at a time
_LINKS = 40  # links in one path that Linux follows

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) now and then while a tree is hashed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeEntry:
    """One file: path within the tree, size in bytes, digest; an empty folder's path ends in `/` and it has neither."""

    path: str
    size: int = 0
    digest: Digest | None = None

    def to_dict(self) -> dict[str, object]:
        """As the manifest writes it."""
        if self.digest is None:
            return {"path": self.path}
        return {"path": self.path, "size": self.size, "digest": str(self.digest)}

    @classmethod
    def from_dict(cls, value: object) -> "TreeEntry":
        """Read one manifest line; raises RecordError."""
        fields = Fields(value)
        digest = fields.optional("digest", str)
        return cls(
            path=fields.get("path", str),
            size=fields.optional("size", int) or 0,
            digest=None if digest is None else Digest.parse(digest),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """The files of a folder, sorted by path."""

    entries: tuple[TreeEntry, ...]

    @property
    def manifest(self) -> bytes:
        """The JSON lines that the digest is taken of."""
        return b"".join(canonical_json(entry.to_dict()) + b"\n" for entry in self.entries)

    @property
    def digest(self) -> Digest:
        """Names the content of the whole folder."""
        return Digest.of_bytes(self.manifest)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)

    def write(self, path: Path) -> None:
        """Keep the manifest in a file."""
        write_atomically(path, self.manifest)


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeFilter:
    """What does not belong to a tree: glob patterns on relative paths, and folders named by what they are on disk."""

    patterns: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    markers: tuple[str, ...] = ()
    hidden: bool = False
    _identities: frozenset[tuple[int, int]] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        # By device and inode, because the same folder has other names inside a container.
        object.__setattr__(self, "_identities", frozenset(filter(None, map(_identity, self.folders))))

    def names(self, relative: str) -> bool:
        """Whether a path stays out for its name alone."""
        name = relative.rpartition("/")[2]
        if self.hidden and name.startswith("."):
            return True
        return any(fnmatch.fnmatchcase(relative, p) or fnmatch.fnmatchcase(name, p) for p in self.patterns)

    def holds_folder(self, path: str, at: os.stat_result) -> bool:
        """Whether a folder stays out for what it is, or for a marker file in it."""
        return (at.st_dev, at.st_ino) in self._identities or any(os.path.exists(f"{path}/{m}") for m in self.markers)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode; None for what is not there or cannot be looked at."""
    try:
        at = os.stat(folder)
    except OSError:
        return None
    return at.st_dev, at.st_ino


def read_manifest(path: Path) -> Tree:
    """A tree as `Tree.write` kept it; raises RecordError."""
    try:
        return Tree(entries=tuple(TreeEntry.from_dict(json.loads(line)) for line in path.read_bytes().splitlines()))
    except (OSError, ValueError, RecordError) as error:
        raise RecordError(f"cannot read the manifest {path}: {error}") from error


def differing_paths(before: Tree, after: Tree) -> list[str]:
    """Every path that was added, removed or changed between two trees, sorted."""
    old = {entry.path: entry for entry in before.entries}
    new = {entry.path: entry for entry in after.entries}
    return differing_names(old, new)


def list_tree(root: Path, what: str, leave_out: TreeFilter | None = None) -> list[tuple[str, str, int]]:
    """All files of `root` as (relative path, path, size), sorted; an empty folder as (`name/`, "", 0).

    `what` names the tree in messages ("data"). Raises InputError for what another machine could not see the same way: a
    link that leaves the tree or loops, a socket, a name that is not UTF-8, a file that may not be read.
    """
    try:
        is_folder = stat.S_ISDIR(os.stat(root).st_mode)
    except FileNotFoundError:
        raise InputError(f"the {what} folder {root} does not exist; name a folder that holds the {what}") from None
    except OSError as error:
        raise InputError(f"cannot read {root}: {error.strerror}; make it readable for you") from error
    if not is_folder:
        raise InputError(f"the {what} folder {root} is not a folder; name a folder that holds the {what}")
    walk = _Walk(os.path.realpath(root), what, leave_out or TreeFilter())
    return sorted(walk.files(), key=lambda item: item[0].encode())


def hash_tree(root: Path, what: str, *, leave_out: TreeFilter | None = None, progress: Progress | None = None) -> Tree:
    """Read every file of `root` once and return its tree; see `list_tree` for what is refused."""
    files = list_tree(root, what, leave_out)
    hasher = _FileHasher(progress, sum(item[2] for item in files))
    return Tree(entries=tuple(hasher.entry(relative, path) for relative, path, _ in files))


_Above = tuple[tuple[int, int], ...]
"""The identities of the folders that lead to one."""


class _Walk:
    """One listing of one tree."""

    def __init__(self, root: str, what: str, leave_out: TreeFilter) -> None:
        self.root = root
        self._what = what
        self._leave_out = leave_out

    def files(self) -> Iterator[tuple[str, str, int]]:
        """All files below the root, in no order; a stack, as folders may be nested deeper than Python's calls."""
        waiting: list[tuple[str, str, _Above]] = [("", self.root, ())]
        while waiting:
            prefix, path, above = waiting.pop()
            here, children = self._open(path)
            if here in above:
                raise InputError(f"the {self._what} folder holds a link that loops: {path}; remove the link")
            if not children and prefix:
                yield prefix, "", 0
            for child in children:
                relative = f"{prefix}{child.name}"
                at = self._look_at(relative, child)
                if at is None:
                    continue
                if stat.S_ISDIR(at.st_mode):
                    waiting.append((f"{relative}/", child.path, (*above, here)))
                else:
                    yield relative, child.path, at.st_size

    def _open(self, path: str) -> tuple[tuple[int, int], list[os.DirEntry[str]]]:
        """A folder's identity and what it holds."""
        try:
            at = os.stat(path)
            with os.scandir(path) as listing:
                return (at.st_dev, at.st_ino), list(listing)
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _look_at(self, relative: str, child: os.DirEntry[str]) -> os.stat_result | None:
        """What a child is; None where it is left out."""
        self._check_name(relative)
        if self._leave_out.names(relative):
            return None
        if child.is_symlink():
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

    def _check_link(self, relative: str, path: str) -> None:
        """A link must lead to something inside the tree, and must not leave it on the way."""
        if not self._stays_inside(relative):
            raise InputError(
                f"the {self._what} folder holds a link that leaves it: {path} -> {os.readlink(path)};"
                " put the file itself there, or a relative link within the folder"
            )

    def _stays_inside(self, relative: str) -> bool:
        """Follow a path from the root step by step, links in it as well.

        One that goes above the root does not stay, be it only to come back by the root's own name: in a container the
        root has another one.
        """
        here: list[str] = []
        steps = relative.split("/")[::-1]
        links = 0
        while steps and links < _LINKS:
            step = steps.pop()
            if step == ".." and not here:
                return False
            if step in {"", ".", ".."}:
                del here[len(here) - (step == "..") :]
                continue
            here.append(step)
            path = "/".join([self.root, *here])
            if os.path.islink(path):
                target = os.readlink(path)
                if os.path.isabs(target):
                    return False
                links += 1
                here.pop()
                steps += target.split("/")[::-1]
        return True  # a chain without end is found when it is opened

    def _unreadable(self, path: str, error: OSError) -> InputError:
        if isinstance(error, FileNotFoundError):
            return InputError(f"the {self._what} folder holds a link to nothing: {path}; remove or mend the link")
        if "symbolic links" in (error.strerror or ""):
            return InputError(f"the {self._what} folder holds a link that loops: {path}; remove the link")
        return InputError(f"cannot read {path}: {error.strerror}; make it readable for you")


class _FileHasher:
    """Hashes files through one buffer, and reports how far it is."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._buffer = memoryview(bytearray(_BLOCK))
        self._done = 0
        self._total = total

    def entry(self, relative: str, path: str) -> TreeEntry:
        """The manifest entry of one listed file; the size is the one that was read."""
        if not path:
            return TreeEntry(path=relative)
        state = hashlib.sha256()
        size = 0
        try:
            with open(path, "rb", buffering=0) as file:
                while count := file.readinto(self._buffer):
                    state.update(self._buffer[:count])
                    size += count
                    self._report(count)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; make it readable for you") from error
        return TreeEntry(path=relative, size=size, digest=Digest(state.hexdigest()))

    def _report(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)
