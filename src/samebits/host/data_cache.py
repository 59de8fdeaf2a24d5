"""The digests of data files that were hashed before: `--data-cache`. Only training uses them, never a verification.

The runner hashes all data again at the end of a run, so a digest that is wrong fails the run. The file is one for each
data folder, and may be removed at any time.
"""

import hashlib
import math
import os
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from samebits.core.digest import Digest
from samebits.core.errors import StorageError, shorten
from samebits.core.file_tree import ListedFile, Progress, Tree, TreeEntry, hash_files
from samebits.core.jsonio import write_atomically
from samebits.core.known_digests import DATA_CHANGED, STAMP_BYTES, CacheUse, device_of, last_change, stamp_of
from samebits.core.liveness import file_system
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import PlannedRun, hash_data
from samebits.core.tree_walk import list_tree
from samebits.host.cache_dir import cache_folder, read_own
from samebits.host.console import log

_HEAD = b"samebits data digests 1\n"
_ENTRY = struct.Struct(f"{STAMP_BYTES}s32s")
_MAX_BYTES = 1 << 31  # 29 million files
_MIN_CHECKED = 4  # known files that are hashed again in each use
_CHECKED_PART = 0.02
_SETTLED_NS = 2_000_000_000  # since the last change; the clock of a file system may be so coarse
_KEEPS_TIMES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"})
"""Here inodes are stable, and each write through the kernel changes a time; on tmpfs one through a mapping does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hit:
    """A file whose stamp is as it was when it was hashed."""

    stamp: bytes
    entry: TreeEntry


def hash_data_by_cache(folder: Path, progress: Progress | None = None) -> Tree:
    """The tree of a data folder as `hash_data` gives it; only files that changed are read, and a sample of the others.

    Where the sample shows a wrong digest, the cache is thrown away and all is read.
    """
    started = time.time_ns()
    path = _cache_path(folder)
    files = list_tree(folder, "data")
    if path is None or not files:
        return hash_data(folder, progress)
    hits = _hits(files, _read(path))
    checked = _sample(sorted(hits))
    stamps: dict[str, bytes] = {}
    unread = {item for item in files if item[0] in hits and item[0] not in checked}
    entries = {
        entry.path: entry for entry in hash_files([item for item in files if item not in unread], progress, stamps)
    }
    if wrong := [name for name in sorted(checked) if entries[name] != hits[name].entry]:
        path.unlink(missing_ok=True)
        log(f"the data cache is wrong about {shorten(wrong, 3)} and was removed; all data is hashed")
        return hash_data(folder, progress)
    device = os.stat(folder).st_dev
    new = [(stamp, entries[name]) for name, stamp in stamps.items() if _is_reliable(stamp, device, started)]
    _write(path, [*((hits[item[0]].stamp, hits[item[0]].entry) for item in unread), *new])
    entries |= {item[0]: hits[item[0]].entry for item in unread}
    use = CacheUse(files=len(unread), checked=len(checked)) if unread else None
    return Tree(entries=tuple(entries[item[0]] for item in files), cached=use)


def data_hasher(spec: RunConfig) -> Callable[[Path, Progress | None], Tree]:
    """What hashes the data before a run."""
    return hash_data_by_cache if spec.data_cache else hash_data


def forget_wrong_data(planned: PlannedRun, run: RunDir) -> None:
    """Remove the cache where it was used and the data had another digest at the end of the run."""
    if planned.data is None or planned.data.cached is None or planned.spec.data is None:
        return
    path, message = _cache_path(planned.spec.data), run.read().outcome.message or ""
    if path is not None and message.startswith(DATA_CHANGED):
        path.unlink(missing_ok=True)
        log("the data cache was removed, as it may be wrong: it was used, and the data is not what it says")


def _cache_path(folder: Path) -> Path | None:
    """The cache of a folder; None where nothing can be relied on, with a line that says why."""
    root = os.path.realpath(folder)
    kind = file_system(Path(root))
    if kind not in _KEEPS_TIMES:
        log(f"the data cache is not used on {kind or 'an unknown file system'}: all data is hashed")
        return None
    try:
        return cache_folder("data") / Digest.of_bytes(os.fsencode(root)).hex[:32]
    except StorageError as error:
        log(f"the data cache is not used: {error}")
        return None


def _hits(files: Iterable[ListedFile], known: Mapping[bytes, bytes]) -> dict[str, _Hit]:
    """The files whose digest is known, by name."""
    found = {}
    for name, path, _ in files:
        # A file that cannot be asked for is reported where it is read.
        with suppress(OSError):
            at = os.stat(path) if path and known else None
            if at is not None and (digest := known.get(stamp := stamp_of(at))):
                entry = TreeEntry(path=name, size=at.st_size, digest=Digest(digest.hex()))
                found[name] = _Hit(stamp=stamp, entry=entry)
    return found


def _sample(names: list[str]) -> frozenset[str]:
    """Which known files are hashed all the same; nobody can say in advance which."""
    count = max(_MIN_CHECKED, math.ceil(len(names) * _CHECKED_PART))
    return frozenset(SystemRandom().sample(names, min(count, len(names))))


def _is_reliable(stamp: bytes, device: int, started: int) -> bool:
    """Whether a later change shows in the stamp: of a file on this device that was at rest for a while."""
    # Also not a file whose time is in the future: a clock was set back.
    return device_of(stamp) == device and last_change(stamp) < started - _SETTLED_NS


def _read(path: Path) -> dict[bytes, bytes]:
    """The sha256 of files by their stamp; nothing where the cache is missing, damaged or of another form."""
    try:
        content = read_own(path, _MAX_BYTES)
    except (OSError, StorageError):
        return {}
    head, body = content[: len(_HEAD) + 32], memoryview(content)[len(_HEAD) + 32 :]
    if head != _HEAD + hashlib.sha256(body).digest() or len(body) % _ENTRY.size:
        return {}
    return dict(_ENTRY.iter_unpack(body))


def _write(path: Path, entries: Iterable[tuple[bytes, TreeEntry]]) -> None:
    body = b"".join(_ENTRY.pack(stamp, bytes.fromhex(entry.digest.hex)) for stamp, entry in entries if entry.digest)
    # A run is worth more than its cache.
    with suppress(StorageError):
        write_atomically(path, _HEAD + hashlib.sha256(body).digest() + body, mode=0o600)
