"""The tensors in a model file, as digests: read without HDF5's library, whose input would be a stranger's file.

It knows what Keras writes: HDF5 in its first format, with arrays that lie in the file in one piece. `None` stands for
anything else. Nothing is allocated by what a file says of itself, and no more bytes are read than it has.
"""

import hashlib
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from samebits.core.run_files import open_plain

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_WEIGHTS = "model.weights.h5"  # in a `.keras` archive
_NOWHERE = 0xFFFF_FFFF_FFFF_FFFF
_MAX_OBJECTS = 1_000_000
_READ_BYTES = 1 << 20
_DATASPACE, _DATATYPE, _EXTERNAL, _LAYOUT, _FILTERS, _CONTINUED, _GROUP = 0x1, 0x3, 0x7, 0x8, 0xB, 0x10, 0x11
_FLOATS = {(2, 5): "float16", (4, 8): "float32", (8, 11): "float64"}
"""By size in bytes and bits of the exponent."""

Tensor = tuple[str, tuple[int, ...], str]
"""Element type, shape, and the written digest of the bytes."""


class _UnknownFormError(Exception):
    """The file holds something else than Keras writes."""


def stored_tensors(path: Path, within: Path) -> Counter[Tensor] | None:
    """Every array in a model's `.keras` or `.h5` file, with how often it is there. Raises OSError."""
    with open_plain(path, within) as file:
        try:
            start, size = _weights(file) if path.suffix == ".keras" else (0, path.stat().st_size)
            return Counter(_Reader(file, start, size).tensors())
        except (_UnknownFormError, struct.error, zipfile.BadZipFile, KeyError, ValueError, RecursionError):
            return None


def _weights(file: BufferedReader) -> tuple[int, int]:
    """Where the weights lie in an archive, which compresses nothing."""
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo(_WEIGHTS)
    file.seek(member.header_offset)
    header = file.read(30)
    if member.compress_type != zipfile.ZIP_STORED or header[:4] != b"PK\x03\x04":
        raise _UnknownFormError
    name, extra = struct.unpack_from("<HH", header, 26)
    return member.header_offset + 30 + name + extra, member.file_size


@dataclass(kw_only=True, slots=True)
class _Array:
    """What the messages of one object say of its array."""

    dtype: str = ""
    shape: tuple[int, ...] | None = None
    address: int = _NOWHERE
    size: int = 0
    inline: bytes | None = None


@dataclass(slots=True)
class _Reader:
    """One HDF5 file within another file, from `start` on."""

    file: BufferedReader
    start: int
    size: int
    _seen: set[int] = field(default_factory=set)
    _left: int = 0

    def tensors(self) -> Iterator[Tensor]:
        """All arrays. Raises _UnknownFormError."""
        self._left = self.size  # bytes of arrays: they do not overlap
        head = self._at(0, 96)
        if head[:9] != _SIGNATURE + b"\0" or head[13:15] != b"\x08\x08":
            raise _UnknownFormError
        waiting = [struct.unpack_from("<Q", head, 64)[0]]
        while waiting:
            groups, array = self._object(waiting.pop())
            waiting += [child for group in groups for child in self._children(group)]
            if array.shape is not None:
                yield array.dtype, array.shape, f"sha256:{self._digest(array)}"

    def _at(self, address: int, count: int) -> bytes:
        if address + count > self.size:
            raise _UnknownFormError
        self.file.seek(self.start + address)
        found = self.file.read(count)
        if len(found) != count:
            raise _UnknownFormError
        return found

    def _once(self, address: int) -> None:
        """Nothing is linked twice, and no group holds itself."""
        if address in self._seen or len(self._seen) > _MAX_OBJECTS:
            raise _UnknownFormError
        self._seen.add(address)

    def _object(self, address: int) -> tuple[list[int], _Array]:
        """The trees of a group, or the array of a dataset."""
        self._once(address)
        version, length = struct.unpack_from("<B7xI", self._at(address, 12))
        if version != 1:
            raise _UnknownFormError
        groups, array = [], _Array()
        for kind, content in self._messages(address + 16, length):
            if kind == _GROUP:
                groups.append(struct.unpack_from("<Q", content)[0])
            else:
                _describe(array, kind, content)
        return groups, array

    def _messages(self, address: int, length: int) -> Iterator[tuple[int, bytes]]:
        blocks = [(address, length)]
        while blocks:
            begin, count = blocks.pop()
            self._once(begin)
            block, place = self._at(begin, count), 0
            while place + 8 <= count:
                kind, size = struct.unpack_from("<HH", block, place)
                content = block[place + 8 : place + 8 + size]
                place += 8 + size
                if kind == _CONTINUED:
                    blocks.append(struct.unpack_from("<QQ", content))
                else:
                    yield kind, content

    def _children(self, tree: int) -> Iterator[int]:
        """The objects of a group: a tree of tables."""
        self._once(tree)
        node = self._at(tree, 24)
        if node[:5] != b"TREE\0":
            raise _UnknownFormError
        level, count = struct.unpack_from("<BH", node, 5)
        for (child,) in struct.iter_unpack("<8xQ", self._at(tree + 24, 16 * count)):
            yield from self._children(child) if level else self._table(child)

    def _table(self, address: int) -> Iterator[int]:
        self._once(address)
        head = self._at(address, 8)
        if head[:4] != b"SNOD":
            raise _UnknownFormError
        for target, cached in struct.iter_unpack(
            "<8xQI20x", self._at(address + 8, 40 * struct.unpack("<6xH", head)[0])
        ):
            if cached == 2:  # a link by name
                raise _UnknownFormError
            yield target

    def _digest(self, array: _Array) -> str:
        if array.inline is not None:
            return hashlib.sha256(array.inline).hexdigest()
        self._left -= array.size
        if self._left < 0 or (array.size and array.address + array.size > self.size):
            raise _UnknownFormError
        state, left = hashlib.sha256(), array.size
        self.file.seek(self.start + array.address if array.size else self.start)
        while left:
            part = self.file.read(min(left, _READ_BYTES))
            if not part:
                raise _UnknownFormError
            state.update(part)
            left -= len(part)
        return state.hexdigest()


def _describe(array: _Array, kind: int, content: bytes) -> None:
    """Add what one message says."""
    if kind == _DATASPACE:
        version, rank = content[0], content[1]
        array.shape = struct.unpack_from(f"<{rank}Q", content, 8 if version == 1 else 4)
    elif kind == _DATATYPE:
        array.dtype = _type_name(content)
    elif kind in (_EXTERNAL, _FILTERS):
        raise _UnknownFormError
    elif kind == _LAYOUT:
        version, layout = content[0], content[1]
        if version not in (3, 4) or layout not in (0, 1):
            raise _UnknownFormError
        if layout == 1:
            array.address, array.size = struct.unpack_from("<QQ", content, 2)
        else:
            array.inline = content[4 : 4 + struct.unpack_from("<H", content, 2)[0]]


def _type_name(content: bytes) -> str:
    """The name of an element type; an empty one for a type that no tensor has."""
    kind, bits, size = content[0] & 15, content[1], struct.unpack_from("<I", content, 4)[0]
    if bits & 1:  # big-endian
        return ""
    if kind == 1:
        return _FLOATS.get((size, content[13]), "")
    if kind == 0 and size in (1, 2, 4, 8):
        return f"{'' if bits & 8 else 'u'}int{8 * size}"
    return "bool" if kind == 8 and size == 1 else ""
