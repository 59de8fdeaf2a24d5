"""Reads arrays and attributes of an HDF5 file without HDF5's library, whose input would be a stranger's file.

It knows HDF5's first format, with arrays that lie in the file in one piece, and raises one of `ERRORS` for anything
else. Nothing is allocated by what a file says of itself, and no more bytes are read than it has.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from typing import Any

from samebits.core.model_json import attribute_json
from samebits.core.run_files import MAX_DEPTH

MAX_JSON = 16 << 20  # of all configuration in a file: its values take many times that
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = 0xFFFF_FFFF_FFFF_FFFF
_MAX_OBJECTS = 1_000_000
_MAX_PART = 64 << 20  # of a file, apart from arrays: holes make a file as large as its author likes
_READ_BYTES = 1 << 20
_DATASPACE, _DATATYPE, _LAYOUT, _ATTRIBUTE, _CONTINUED, _GROUP = 0x1, 0x3, 0x8, 0xC, 0x10, 0x11
_FOREIGN = (0x2, 0x6, 0x7, 0xB, 0x15)
"""Messages of later formats, of arrays in other files, and of filters."""

_FLOATS = {(2, 5): "float16", (4, 8): "float32", (8, 11): "float64"}
"""By size in bytes and bits of the exponent."""

_NUMBERS = {"float32": "f", "float64": "d", "int8": "b", "int16": "h", "int32": "i", "int64": "q"}
_NUMBERS |= {f"u{name}": code.upper() for name, code in _NUMBERS.items() if name.startswith("int")}

Tensor = tuple[str, tuple[int, ...], str]
"""Element type, shape, and the written digest of the bytes."""


class UnknownFormError(Exception):
    """The file holds something else than Keras writes."""


ERRORS = (
    *(UnknownFormError, struct.error, KeyError, IndexError, ValueError, RecursionError),
    *(NotImplementedError, EOFError, RuntimeError, MemoryError, OSError),
)
"""What a file of another form raises, and one that cannot be read."""


@dataclass(kw_only=True, slots=True)
class _Object:
    """What the messages of one object say: of a group, or of an array."""

    groups: list[tuple[int, int]] = field(default_factory=list)
    attributes: list[bytes] = field(default_factory=list)
    dtype: str = ""
    shape: tuple[int, ...] | None = None
    address: int = _NOWHERE
    size: int = 0
    inline: bytes | None = None


@dataclass(slots=True)
class Hdf5Reader:
    """One HDF5 file within another file, from `start` on."""

    file: BufferedReader
    start: int
    size: int
    _seen: set[int] = field(default_factory=set)
    _left: int = 0
    _texts_left: int = MAX_JSON

    def items(self) -> Iterator[Tensor | list[Any]]:
        """All arrays as tuples, and all attributes' values, each in a list. Raises one of `ERRORS`."""
        return (item for _, item in self.named())

    def named(self) -> Iterator[tuple[str, Tensor | list[Any]]]:
        """The same with their paths, in the order of names."""
        for path, found in self._objects():
            for name, value in sorted(map(self._attribute, found.attributes), key=lambda item: item[0]):
                yield f"{path}@{name}", [value]
            if found.shape is not None:
                yield path, (found.dtype, found.shape, f"sha256:{self._digest(found)}")

    def places(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """The written digest of each array of numbers, with the place in the outer file and the number of its bytes."""
        for _, found in self._objects():
            if found.shape is not None and found.dtype and found.inline is None:
                yield f"sha256:{self._digest(found)}", (self.start + found.address if found.size else 0, found.size)

    def _objects(self) -> Iterator[tuple[str, _Object]]:
        """Groups and arrays with their paths, in the order of names."""
        self._left = self.size  # bytes of arrays: they do not overlap
        head = self._at(0, 96)
        if head[:9] != _SIGNATURE + b"\0" or head[13:15] != b"\x08\x08":
            raise UnknownFormError
        yield from self._walk("", struct.unpack_from("<Q", head, 64)[0])

    def _walk(self, path: str, address: int) -> Iterator[tuple[str, _Object]]:
        if path.count("/") > MAX_DEPTH:
            raise UnknownFormError
        found = self._object(address)
        yield path, found
        children = [child for tree, heap in found.groups for child in self._children(tree, partial(self._name, heap))]
        for name, child in sorted(children):
            yield from self._walk(f"{path}/{name}", child)

    def _at(self, address: int, count: int) -> bytes:
        if count > _MAX_PART or address + count > self.size:
            raise UnknownFormError
        self.file.seek(self.start + address)
        found = self.file.read(count)
        if len(found) != count:
            raise UnknownFormError
        return found

    def _once(self, address: int) -> None:
        """Nothing is linked twice, and no group holds itself."""
        if address in self._seen or len(self._seen) > _MAX_OBJECTS:
            raise UnknownFormError
        self._seen.add(address)

    def _object(self, address: int) -> _Object:
        self._once(address)
        version, length = struct.unpack_from("<B7xI", self._at(address, 12))
        if version != 1:
            raise UnknownFormError
        found = _Object()
        for kind, content in self._messages(address + 16, length):
            if kind == _GROUP:
                found.groups.append(struct.unpack_from("<QQ", content))
            elif kind == _ATTRIBUTE:
                found.attributes.append(content)
            else:
                _describe(found, kind, content)
        return found

    def _messages(self, address: int, length: int) -> Iterator[tuple[int, bytes]]:
        blocks = [(address, length)]
        while blocks:
            begin, count = blocks.pop(0)
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

    def _children(self, tree: int, name: "partial[str]") -> Iterator[tuple[str, int]]:
        """Names and addresses of the objects of a group: a tree of tables."""
        self._once(tree)
        node = self._at(tree, 24)
        if node[:5] != b"TREE\0":
            raise UnknownFormError
        level, count = struct.unpack_from("<BH", node, 5)
        for (child,) in struct.iter_unpack("<8xQ", self._at(tree + 24, 16 * count)):
            yield from self._children(child, name) if level else self._table(child, name)

    def _table(self, address: int, name: "partial[str]") -> Iterator[tuple[str, int]]:
        self._once(address)
        head = self._at(address, 8)
        if head[:4] != b"SNOD":
            raise UnknownFormError
        entries = self._at(address + 8, 40 * struct.unpack("<6xH", head)[0])
        for offset, target, cached in struct.iter_unpack("<QQI20x", entries):
            if cached == 2:  # a link by name
                raise UnknownFormError
            yield name(offset), target

    def _name(self, heap: int, offset: int) -> str:
        """A name in the heap of a group."""
        head = self._at(heap, 32)
        size, data = struct.unpack("<8xQ8xQ", head)
        if head[:4] != b"HEAP" or offset >= size:
            raise UnknownFormError
        return self._at(data + offset, min(size - offset, 1 << 16)).partition(b"\0")[0].decode()

    def _digest(self, found: _Object) -> str:
        if not found.dtype:
            raise UnknownFormError
        if found.inline is not None:
            return hashlib.sha256(found.inline).hexdigest()
        self._left -= found.size
        if self._left < 0 or (found.size and found.address + found.size > self.size):
            raise UnknownFormError
        state, left = hashlib.sha256(), found.size
        self.file.seek(self.start + found.address if found.size else self.start)
        while left:
            part = self.file.read(min(left, _READ_BYTES))
            if not part:
                raise UnknownFormError
            state.update(part)
            left -= len(part)
        return state.hexdigest()

    def _attribute(self, content: bytes) -> tuple[str, Any]:
        """An attribute's name and value; of the first version, whose parts fill up multiples of eight bytes."""
        version, *sizes = struct.unpack_from("<BxHHH", content)
        if version != 1:
            raise UnknownFormError
        parts, place = [], 8
        for size in sizes:
            parts.append(content[place : place + size])
            place += (size + 7) // 8 * 8
        name, kind, space = parts
        shape = _shape(space)
        values = self._values(kind, content[place:], 1 if not shape else shape[0])
        if len(shape) > 1:
            raise UnknownFormError
        return name.partition(b"\0")[0].decode(), list(values) if shape else values[0]

    def _values(self, kind: bytes, content: bytes, count: int) -> Sequence[Any]:
        """As the runner lists them: texts, whose JSON is read, and numbers as Python writes them."""
        form, size = kind[0] & 15, struct.unpack_from("<I", kind, 4)[0]
        if len(content) < size * count or size == 0:
            raise UnknownFormError
        items = [content[place : place + size] for place in range(0, size * count, size)]
        if form == 3 and kind[1] & 15 in (0, 1):
            texts = [item.partition(b"\0")[0] if kind[1] & 15 == 0 else item.rstrip(b"\0") for item in items]
        elif form == 9 and kind[1] & 15 == 1:
            texts = [self._in_heap(item) for item in items]
        elif (name := _type_name(kind)) in _NUMBERS:
            return [repr(struct.unpack(f"<{_NUMBERS[name]}", item)[0]) for item in items]
        else:
            raise UnknownFormError
        return [attribute_json(text.decode("utf-8", "surrogateescape")) for text in texts]

    def _in_heap(self, reference: bytes) -> bytes:
        """A text of variable length in a heap of the whole file."""
        length, heap, index = struct.unpack("<IQI", reference)
        if length == 0:
            return b""
        self._texts_left -= length  # many attributes may name one text
        if self._texts_left < 0:
            raise UnknownFormError
        head = self._at(heap, 16)
        place, end = heap + 16, heap + struct.unpack("<8xQ", head)[0]
        if head[:4] != b"GCOL":
            raise UnknownFormError
        while place + 16 <= end:
            number, size = struct.unpack("<H6xQ", self._at(place, 16))
            if number == index and length <= size:
                return self._at(place + 16, length)
            if number == 0:
                break
            place += 16 + (size + 7) // 8 * 8
        raise UnknownFormError


def _describe(found: _Object, kind: int, content: bytes) -> None:
    """Add what one message says of an array."""
    if kind == _DATASPACE:
        found.shape = _shape(content)
    elif kind == _DATATYPE:
        found.dtype = _type_name(content)
    elif kind in _FOREIGN:
        raise UnknownFormError
    elif kind == _LAYOUT:
        version, layout = content[0], content[1]
        if version not in (3, 4) or layout not in (0, 1):
            raise UnknownFormError
        if layout == 1:
            found.address, found.size = struct.unpack_from("<QQ", content, 2)
        else:
            found.inline = content[4 : 4 + struct.unpack_from("<H", content, 2)[0]]


def _shape(content: bytes) -> tuple[int, ...]:
    version, rank = content[0], content[1]
    if version not in (1, 2) or (version == 2 and content[3] == 2):
        raise UnknownFormError
    return struct.unpack_from(f"<{rank}Q", content, 8 if version == 1 else 4)


def _type_name(content: bytes) -> str:
    """The name of an element type; an empty one for a type that no tensor has."""
    kind, bits, size = content[0] & 15, content[1], struct.unpack_from("<I", content, 4)[0]
    if bits & 1 and kind != 8:  # big-endian
        return ""
    if kind == 1:
        return _FLOATS.get((size, content[13]), "")
    if kind == 0 and size in (1, 2, 4, 8):
        return f"{'' if bits & 8 else 'u'}int{8 * size}"
    return "bool" if kind == 8 and size == 1 else ""
