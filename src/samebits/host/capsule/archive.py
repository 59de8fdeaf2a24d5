"""The bytes of a capsule: an uncompressed tar archive that follows from `capsule.json` and the files alone.

    header and content of capsule.json, then of each file that it names, in its order; two empty blocks; the end

Nothing of a received archive is interpreted but `capsule.json`. Every header is made anew and compared, so that a link,
a device, a path with `..`, a sparse file or a second file of one name is another byte than the expected one. There is
no compression, so that a capsule is never larger than its file.
"""

import functools
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from samebits.core.code_tree import FILE_TIME
from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.file_tree import Progress
from samebits.core.jsonio import storage_error, sync_folder
from samebits.core.run_files import open_plain
from samebits.host.capsule.contents import MAX_BYTES, NAME, Contents, Member, read_contents

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_READ_BYTES = 1 << 20
_KINDS = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.DIRTYPE: "a folder",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_COMPRESSED = {b"\x28\xb5\x2f\xfd": "unzstd", b"\x1f\x8b": "gunzip", b"\xfd7zXZ\0": "unxz", b"BZh": "bunzip2"}
"""By their first bytes, what makes a file whole again that someone has compressed on the way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where the bytes of a file come from: `content`, or the file at `path`, which lies beneath `within` if set.

    With an `offset`, they are a part of that file.
    """

    member: Member
    content: bytes | None = None
    path: Path = Path()
    within: Path | None = None
    offset: int | None = None

    def opened(self) -> IO[bytes]:
        """The bytes, from their beginning; raises OSError."""
        if self.content is not None:
            return io.BytesIO(self.content)
        file: IO[bytes] = self.path.open("rb") if self.within is None else open_plain(self.path, self.within)
        file.seek(self.offset or 0)
        return file


def header(member: Member) -> bytes:
    """The header of a file: everything in it follows from path, size and executable bit."""
    info = tarfile.TarInfo(member.path.removesuffix("/"))
    info.mtime = FILE_TIME
    info.size = member.size
    info.mode = 0o755 if member.executable or member.is_folder else 0o644
    if member.is_folder:
        info.type = tarfile.DIRTYPE
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """What follows a file of that size, up to the next block."""
    return bytes(-size % _BLOCK)


class _Digesting:
    """The digest of blocks; a large one is hashed in a second thread, while the caller writes it."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self._hashing: Future[None] | None = None

    def update(self, block: bytes) -> None:
        """Add a block, which must not change any more."""
        self._wait()
        # A small one is hashed before a thread has woken up.
        if len(block) < _READ_BYTES:
            self._state.update(block)
        else:
            self._hashing = _hashing_thread().submit(self._state.update, block)

    def digest(self) -> Digest:
        """The digest of all blocks."""
        self._wait()
        return Digest(self._state.hexdigest())

    def _wait(self) -> None:
        if self._hashing is not None:
            self._hashing.result()


@functools.cache
def _hashing_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="samebits-capsule")


# Writing


def write_archive(target: Path, contents: Contents, sources: Sequence[Source], progress: Progress) -> Contents:
    """Write a capsule atomically and return its contents with all digests.

    `sources` are in the order of the contents. Raises InputError for a file that is not the expected one.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with draft.open("xb") as file:
            contents = _write(file, contents, sources, progress)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        draft.unlink(missing_ok=True)
    return contents


def _write(file: IO[bytes], contents: Contents, sources: Sequence[Source], progress: Progress) -> Contents:
    # Digests are known only after the files were read. Until then zeros take their place, which are as long.
    first = _first(contents.content)
    file.write(first)
    total, done, written = sum(source.member.size for source in sources), 0, []
    for source in sources:
        member = source.member
        if not member.stored:
            file.write(header(member))
            member = replace(member, digest=transfer(source, file.write))
            file.write(padding(member.size))
        written.append(member)
        done += member.size
        progress(done, total)
    file.write(_END)
    complete = contents.with_members(written)
    file.seek(0)
    file.write(_first(complete.content))
    return complete


def _first(content: bytes) -> bytes:
    return header(Member(path=NAME, size=len(content))) + content + padding(len(content))


def transfer(source: Source, write: Callable[[bytes], object]) -> Digest | None:
    """Copy a file; returns its digest. Raises InputError where it has another size or digest than the expected."""
    member = source.member
    if member.is_folder:
        return None
    digesting, left = _Digesting(), member.size
    try:
        with source.opened() as file:
            while left and (block := file.read(min(left, _READ_BYTES))):
                digesting.update(block)
                _write_block(write, block)
                left -= len(block)
            more = b"" if source.offset is not None else file.read(1)
    except OSError as error:
        raise InputError(f"cannot read {source.path}: {error.strerror}") from error
    found = digesting.digest()
    if left or more or found != (member.digest or found):
        raise InputError(f"{source.path} is not the file of the run any more; restore it, and pack again")
    return found


def _write_block(write: Callable[[bytes], object], block: bytes) -> None:
    try:
        write(block)
    except OSError as error:
        raise storage_error(error, Path("the capsule")) from error


# Reading


class Archive:
    """A received capsule, opened: `contents` is checked, and so is each file while `files` reads it."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Raises RecordError unless the file begins as a capsule does, and is as long as it says."""
        self._file = file
        self._name = name
        first = file.read(_BLOCK)
        found = _parse(first)
        if program := next((_COMPRESSED[start] for start in _COMPRESSED if first.startswith(start)), None):
            raise RecordError(f"{name} is compressed, and a capsule is checked as it was packed; run `{program}` first")
        if found is None or found.name != NAME:
            raise RecordError(f"{name} is no capsule: it does not begin with {NAME}")
        if found.size > MAX_BYTES:
            raise self._damage(f"{NAME} is larger than {MAX_BYTES >> 20} MiB")
        file.seek(0)
        self._expect(header(Member(path=NAME, size=found.size)), NAME)
        content = file.read(found.size)
        try:
            self.contents = read_contents(content)
        except RecordError as error:
            raise self._damage(f"{NAME}: {error}") from error
        self._expect(padding(found.size), f"the end of {NAME}")
        self._check_length()

    def _check_length(self) -> None:
        inside = (member for member in self.contents.members if not member.stored)
        wanted = sum(len(header(member)) + member.size + len(padding(member.size)) for member in inside)
        wanted += self._file.tell() + len(_END)
        found = os.fstat(self._file.fileno()).st_size
        if found != wanted:
            raise self._damage(f"it has {found} bytes, and its files need {wanted}")

    def files(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each file with its blocks, which the caller must read to their end before the next file.

        Raises RecordError, which names the file, where anything is not as `capsule.json` says.
        """
        for member in self.contents.members:
            if not member.stored:
                self._expect(header(member), member.path)
                yield member, self._blocks(member)
                self._expect(padding(member.size), f"the end of {member.path}")
        self._expect(_END, "the end of the archive")

    def _blocks(self, member: Member) -> Iterator[bytes]:
        digesting, left = _Digesting(), member.size
        while left and (block := self._file.read(min(left, _READ_BYTES))):
            digesting.update(block)
            left -= len(block)
            yield block
        if not member.is_folder and digesting.digest() != member.digest:
            raise self._damage(f"{member.path} has another digest than {NAME} names")

    def _expect(self, wanted: bytes, what: str) -> None:
        found = self._file.read(len(wanted))
        if found != wanted:
            raise self._damage(f"{what} {_difference(found, wanted)}")

    def _damage(self, what: str) -> RecordError:
        return RecordError(f"{self._name} was changed after it was packed: {what}; nothing of it is used")


def _parse(block: bytes) -> tarfile.TarInfo | None:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None


def _difference(found: bytes, wanted: bytes) -> str:
    """What stands in the place of a header, as far as it can be read."""
    info = _parse(found[:_BLOCK]) if len(wanted) >= _BLOCK and any(wanted) else None
    if info is None:
        return "is not as it was written"
    if info.type in _KINDS and info.type != _parse_type(wanted):
        return f"is {_KINDS[info.type]} in the archive"
    return f"has another header, of {info.name!r}"


def _parse_type(wanted: bytes) -> bytes | None:
    info = _parse(wanted[:_BLOCK])
    return None if info is None else info.type
