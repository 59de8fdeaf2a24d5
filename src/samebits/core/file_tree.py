"""The content of a folder as a manifest of file digests, and the digest of that manifest.

The manifest is JSON lines, one per file, sorted by the UTF-8 bytes of the paths. The tree's digest is the sha256 of the
manifest, so `sha256sum data.jsonl` checks it. Symbolic links count as their targets. Empty folders count, because
loaders derive classes from folder names. Times, owners and modes do not count, except that a tree of code holds which
files are executable.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader, FileIO
from pathlib import Path

from samebits.core.digest import Digest, digest_threads
from samebits.core.errors import InputError, RecordError, reason_of
from samebits.core.jsonio import Fields, canonical_json, differing_names, parse_json, write_atomically
from samebits.core.known_digests import CacheUse, stamp_of, stamp_unless_written
from samebits.core.run_files import MAX_MANIFEST_BYTES, open_plain, read_plain, safe_path
from samebits.core.tree_walk import TreeFilter, list_tree

_READ_BYTES = 1 << 20
_PARALLEL_BYTES = 1 << 18  # below, a thread waits for the interpreter's lock longer than it hashes

ListedFile = tuple[str, str, int]
"""Relative path, path and size, as `list_tree` gives them."""

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
    """The files of a folder, sorted by path; `modes` says whether it holds which files are executable.

    `cached` says how many files were not read, as their digests were known.
    """

    entries: tuple[TreeEntry, ...]
    modes: bool = field(default=False, compare=False)
    cached: CacheUse | None = field(default=None, compare=False)

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


def read_manifest(path: Path) -> Tree:
    """Read a manifest that `Tree.write` wrote; raises RecordError."""
    try:
        lines = read_plain(path, MAX_MANIFEST_BYTES).splitlines()
        return Tree(entries=tuple(TreeEntry.from_dict(parse_json(line)) for line in lines))
    except (OSError, ValueError, RecordError) as error:
        raise RecordError(f"cannot read the manifest {path}: {reason_of(error)}") from error


def differing_paths(before: Tree, after: Tree) -> list[str]:
    """All paths that were added, removed or changed between two trees, sorted."""
    old = {entry.path: entry for entry in before.entries}
    new = {entry.path: entry for entry in after.entries}
    return differing_names(old, new)


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
    return Tree(entries=tuple(_hash_files(files, hasher)), modes=modes)


def hash_files(files: list[ListedFile], progress: Progress | None, stamps: dict[str, bytes]) -> Iterator[TreeEntry]:
    """The entries of listed files, in the order given.

    `stamps` receives that of each file which nobody could write unseen while it was read, by its relative path.
    """
    hasher = _FileHasher(progress, sum(item[2] for item in files), modes=False, within=None, stamps=stamps)
    return _hash_files(files, hasher)


def _hash_files(files: list[ListedFile], hasher: "_FileHasher") -> Iterator[TreeEntry]:
    """The entry of each file, in the order given; large files are hashed by as many threads as there are cores."""
    large = [(relative, path) for relative, path, size in files if size >= _PARALLEL_BYTES]
    threads = digest_threads()
    if min(len(large), threads) < 2:
        yield from (hasher.entry(relative, path) for relative, path, _ in files)
        return
    # Imported here, as the command's start is short.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads, thread_name_prefix="samebits-hash") as pool:
        try:
            found = {relative: pool.submit(hasher.entry, relative, path) for relative, path in large}
            for relative, path, _ in files:
                yield found.pop(relative).result() if relative in found else hasher.entry(relative, path)
        except BaseException:
            # Leaving the pool waits for its threads: Ctrl-C must not wait for whole files.
            hasher.stop()
            pool.shutdown(cancel_futures=True)
            raise


class _FileHasher:
    """Hashes files through one buffer a thread, and reports how far it is."""

    def __init__(
        self,
        progress: Progress | None,
        total: int,
        *,
        modes: bool,
        within: Path | None,
        stamps: dict[str, bytes] | None = None,
    ) -> None:
        self._progress = progress
        self._stamps = stamps
        self._within = within
        self._modes = modes
        # One buffer for all files of a thread avoids an allocation for each read.
        self._local = threading.local()
        self._reporting = threading.Lock()
        self._stopped = threading.Event()
        self._done = 0
        self._total = total

    def entry(self, relative: str, path: str) -> TreeEntry:
        """Hash one listed file; the entry's size is the number of bytes read."""
        if not path:
            return TreeEntry(path=relative)
        state = hashlib.sha256()
        buffer = self._buffer()
        size = 0
        try:
            with self._open(path) as file:
                stamp = None if self._stamps is None else stamp_unless_written(file.fileno())
                executable = self._modes and bool(os.fstat(file.fileno()).st_mode & stat.S_IXUSR)
                while not self._stopped.is_set() and (count := file.readinto(buffer)):
                    state.update(buffer[:count])
                    size += count
                    self._report(count)
                # The stamp before and after: whoever opened the file meanwhile set its times.
                if self._stamps is not None and stamp is not None and stamp == stamp_of(os.fstat(file.fileno())):
                    self._stamps[relative] = stamp
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; make it readable for you") from error
        return TreeEntry(path=relative, size=size, digest=Digest(state.hexdigest()), executable=executable)

    def stop(self) -> None:
        """Have every thread end its file early; nobody takes their entries any more."""
        self._stopped.set()

    def _open(self, path: str) -> BufferedReader | FileIO:
        # Unbuffered: the reads are large already.
        return open(path, "rb", buffering=0) if self._within is None else open_plain(Path(path), self._within)

    def _buffer(self) -> memoryview:
        if not hasattr(self._local, "buffer"):
            self._local.buffer = memoryview(bytearray(_READ_BYTES))
        found: memoryview = self._local.buffer
        return found

    def _report(self, count: int) -> None:
        if self._progress is not None:
            with self._reporting:
                self._done += count
                self._progress(self._done, self._total)
