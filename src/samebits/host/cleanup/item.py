"""What can be freed: one thing that takes space, why it is kept if it is, and how to remove it."""

import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DAY = 86_400.0
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """`used` is the time of the last use in seconds, None if nothing tells; `size` is what its removal frees, about.

    `needed` is why it should stay although it is old: a kept run needs it, or the user made it on purpose. `busy` is
    why it cannot be removed now. `again` says how it comes back.
    """

    kind: str
    name: str
    size: int
    used: float | None
    remove: Callable[[], None]
    needed: str = ""
    busy: str = ""
    again: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As `gc --json` prints it."""
        values = ("kind", "name", "size", "used", "needed", "busy", "again")
        return {name: getattr(self, name) for name in values}


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which items go: those unused for so many seconds; with `needed` also those that a kept run needs."""

    unused_for: float
    needed: bool = False
    now: float

    def why_kept(self, item: Item) -> str:
        """Why an item stays; empty for one that goes."""
        if item.busy:
            return item.busy
        if item.needed and not self.needed:
            return item.needed
        if self.unused_for <= 0:
            return ""
        if item.used is None:
            return "its last use is unknown; choose it with --unused-for 0d"
        return "used lately" if self.now - item.used < self.unused_for else ""

    def split(self, items: Iterable[Item]) -> tuple[list[Item], list[tuple[Item, str]]]:
        """Those that go, and those that stay with the reason; the largest first."""
        judged = [(item, self.why_kept(item)) for item in sorted(items, key=lambda item: (-item.size, item.name))]
        return [item for item, why in judged if not why], [(item, why) for item, why in judged if why]


def size_text(size: float) -> str:
    """A number of bytes, as `12.3 MB`."""
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"


def age_text(used: float | None, now: float) -> str:
    """How long ago, in days."""
    if used is None:
        return "unknown"
    days = int((now - used) // _DAY)
    return "today" if days < 1 else f"{days} d ago"


def disk_size(path: Path) -> int:
    """What a file or a folder takes on the disk; a file with several names counts once, and links are not followed."""
    seen: set[tuple[int, int]] = set()
    return sum(_blocks(at) for at in _walk(path) if not _counted(at, seen))


def last_use(path: Path) -> float:
    """When one of the files was last read or linked, as far as the file system tells."""
    # Times of the content are fixed ones. A file system may note reads once a day, or never.
    return max((max(at.st_atime, at.st_ctime) for at in _walk(path)), default=0.0)


def seconds_ago(days: float) -> float:
    """The time so many days ago."""
    return time.time() - days * _DAY


def _walk(path: Path) -> Iterable[os.stat_result]:
    waiting = [os.fspath(path)]
    while waiting:
        here = waiting.pop()
        try:
            at = os.lstat(here)
            yield at
            if stat.S_ISDIR(at.st_mode):
                waiting += [entry.path for entry in os.scandir(here)]
        except OSError:
            continue


def _blocks(at: os.stat_result) -> int:
    return at.st_blocks * 512


def _counted(at: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    key = at.st_dev, at.st_ino
    if at.st_nlink < 2 or stat.S_ISDIR(at.st_mode):
        return False
    known = key in seen
    seen.add(key)
    return known


def total(items: Sequence[Item]) -> int:
    """The bytes of all items."""
    return sum(item.size for item in items)
