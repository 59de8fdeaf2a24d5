"""GPU code inside of libraries: CUDA's fat binaries, and how to blank what one GPU architecture never loads.

A library holds one container for each compiled source file. A container holds an entry for each architecture: machine
code (a cubin), or PTX, which the driver compiles. Blanking overwrites the bodies of entries with zeros and keeps every
header, size and offset, so that the driver reads the same table. The format is not documented by NVIDIA; this follows
the headers `fatbinary_section.h` and `fatBinaryCtl.h` of earlier toolkits, and what `cuobjdump --list-elf` prints.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_START = struct.pack("<IHH", 0xBA55ED50, 1, 16)  # magic number, version, size of this header
_LENGTH = struct.Struct("<Q")  # the bytes after the header
_ENTRY = struct.Struct("<HHIQ")  # kind, version, size of this header, size of the body
_ARCHITECTURE = 28  # its place in an entry's header
_HEADER_SIZES = range(48, 4097)

PTX, CUBIN = 1, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry of a container: its body is `size` bytes at `start`; `architecture` is 90 for 9.0."""

    kind: int
    architecture: int
    start: int
    size: int

    def __str__(self) -> str:
        return f"{ {PTX: 'compute_', CUBIN: 'sm_'}.get(self.kind, f'kind {self.kind} of ') }{self.architecture}"


def containers(data: Any) -> Iterator[tuple[Entry, ...]]:
    """The entries of every container in a library; `data` is what `bytes` is like. What does not add up is left out."""
    at = 0
    while (at := data.find(_START, at)) >= 0:
        first = at + len(_START) + _LENGTH.size
        end = first + _LENGTH.unpack_from(data, at + len(_START))[0] if first <= len(data) else len(data) + 1
        entries = _entries(data, first, end)
        if entries:
            yield entries
        # Chance may put the magic number anywhere; the search goes on right after such a place.
        at = end if entries else at + len(_START)


def _entries(data: Any, at: int, end: int) -> tuple[Entry, ...]:
    """The entries from `at` to `end`; empty unless they fill it exactly."""
    found = []
    while end <= len(data) and at + _HEADER_SIZES.start <= end:
        kind, _, header, size = _ENTRY.unpack_from(data, at)
        (architecture,) = struct.unpack_from("<I", data, at + _ARCHITECTURE)
        found.append(Entry(kind=kind, architecture=architecture, start=at + header, size=size))
        at += header + size
        if header not in _HEADER_SIZES or at > end:
            return ()
    return tuple(found) if at == end else ()


def unloadable(entries: tuple[Entry, ...], architecture: int) -> Iterator[Entry]:
    """The entries that a GPU of that architecture never loads.

    A cubin runs on GPUs of its own major version whose minor one is not lower. PTX is compiled only where no cubin
    fits. Entries of other kinds are kept.
    """
    fits = [_cubin_fits(entry, architecture) for entry in entries]
    for entry, runs in zip(entries, fits, strict=True):
        if entry.kind == CUBIN and not runs:
            yield entry
        if entry.kind == PTX and (any(fits) or entry.architecture > architecture):
            yield entry


def _cubin_fits(entry: Entry, architecture: int) -> bool:
    same_major = entry.architecture // 10 == architecture // 10
    return entry.kind == CUBIN and same_major and entry.architecture <= architecture


def blank(data: bytearray, architecture: int) -> dict[str, int]:
    """Overwrite what that architecture never loads; returns the bytes by kind of entry, such as `sm_80`."""
    gone: Counter[str] = Counter()
    for entries in containers(data):
        for entry in unloadable(entries, architecture):
            data[entry.start : entry.start + entry.size] = bytes(entry.size)
            gone[str(entry)] += entry.size
    return dict(sorted(gone.items()))


def architectures(data: Any) -> dict[str, int]:
    """How many entries of each kind a library has, such as `sm_90` and `compute_90`."""
    return dict(sorted(Counter(str(entry) for entries in containers(data) for entry in entries).items()))
