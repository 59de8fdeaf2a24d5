"""Digests known from an earlier reading: what must be as it was for them to hold, and how many were relied on."""

import fcntl
import os
import signal
import struct
from dataclasses import dataclass
from typing import Any

from samebits.core.jsonio import Fields

DATA_CHANGED = "the data changed during the run"
"""How the message of a run begins whose data has another digest at the end than in the recipe."""

_STAMP = struct.Struct("<QQqqq")
STAMP_BYTES = _STAMP.size


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheUse:
    """How many files of a tree were not read, as their digests were known, and how many known ones were checked."""

    files: int
    checked: int

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {"files": self.files, "checked": self.checked}

    @classmethod
    def from_fields(cls, fields: Fields) -> "CacheUse":
        """Read what `to_dict` wrote."""
        return cls(files=fields.get("files", int), checked=fields.get("checked", int))


def stamp_of(at: os.stat_result) -> bytes:
    """What changes with a file's content: device, inode, size, and the times of the last changes.

    The last one (ctime) is the kernel's: nobody sets it back without setting back the clock.
    """
    return _STAMP.pack(at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns)


def device_of(stamp: bytes) -> int:
    """The device of the file."""
    return int(_STAMP.unpack(stamp)[0])


def last_change(stamp: bytes) -> int:
    """The time of the last change in nanoseconds."""
    *_, modified, changed = _STAMP.unpack(stamp)
    return int(max(modified, changed))


def stamp_unless_written(descriptor: int) -> bytes | None:
    """The stamp of an open file; None where another process has it open for writing, or that cannot be known.

    Pages that are mapped for writing change without another time, once the first write has set it. The kernel gives a
    lease only where there is no writer, mapped ones among them, and only to the owner of the file.
    """
    try:
        # The signal of a broken lease would end this process; this one is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return None
    return stamp_of(os.fstat(descriptor))
