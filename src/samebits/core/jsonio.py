"""How values become bytes and come back: canonical JSON, exact floats, typed reading, atomic files."""

import errno
import fcntl
import json
import mmap
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from samebits.core.errors import RecordError, StorageError

T = TypeVar("T")
MAX_OPEN_FILES = 128  # files that are open at once
_DIRECT_WRITE_BYTES = 1 << 20  # bytes: from this size on, content is written past the kernel's cache
_DIRECT_BLOCK_BYTES = 4 << 20  # bytes of one such write


def canonical_json(value: object) -> bytes:
    """The one JSON text of `value`, in UTF-8: keys sorted, no spaces, no NaN. Digests are taken over it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def readable_json(value: object) -> bytes:
    """The same value laid out for people, as our files hold it."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def exact_float(value: float) -> str:
    """A float as `float.hex` writes it: no digit lost, the same text on every machine; `nan` and `inf` as words."""
    return float(value).hex()


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `content`, or leave it untouched: temporary file beside it, fsync, rename.

    Raises StorageError where the bytes cannot be stored.
    """
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise storage_error(error, path) from error


def write_all(contents: Mapping[Path, Any]) -> None:
    """Write read-only files of one folder, each whole or not at all; raises StorageError.

    They are waited for together: a wait for each would take as long as all of them.
    """
    items = list(contents.items())
    with mmap.mmap(-1, _DIRECT_BLOCK_BYTES) as memory, memoryview(memory) as block:
        for begin in range(0, len(items), MAX_OPEN_FILES):
            _write_together(dict(items[begin : begin + MAX_OPEN_FILES]), block)
    for folder in {path.parent for path in contents}:
        sync_folder(folder)


def _write_together(contents: Mapping[Path, Any], block: memoryview) -> None:
    temporary: dict[Path, str] = {}
    try:
        with ExitStack() as files:
            opened = {}
            for path, content in contents.items():
                file = opened[path] = files.enter_context(
                    tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)
                )
                temporary[path] = file.name
                _write(file.fileno(), memoryview(content).cast("B"), block)
                os.fchmod(file.fileno(), 0o444)
            for file in opened.values():
                os.fsync(file.fileno())
        for path, name in temporary.items():
            os.replace(name, path)
    except OSError as error:
        for path, name in temporary.items():
            Path(name).unlink(missing_ok=True)
            path.unlink(missing_ok=True)  # what names none of them is not written now
        raise storage_error(error, next(iter(contents))) from error


def _write(descriptor: int, content: memoryview, block: memoryview) -> None:
    """Write to a new file; what is large goes past the kernel's cache, where the file system can.

    Nobody reads it soon, and taking memory for it costs a training beside more time than the disk does.
    """
    done = _write_directly(descriptor, content, block) if len(content) >= _DIRECT_WRITE_BYTES else 0
    while done < len(content):
        done += os.write(descriptor, content[done:])


def _write_directly(descriptor: int, content: memoryview, block: memoryview) -> int:
    """Write whole pages through `block`, which begins at one; returns how many bytes the file system took."""
    flags, done = fcntl.fcntl(descriptor, fcntl.F_GETFL), 0
    with suppress(OSError):  # as of a file system in memory; what is wrong with the disk an ordinary write tells, too
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        while size := min(len(block), (len(content) - done) // mmap.PAGESIZE * mmap.PAGESIZE):
            block[:size] = content[done : done + size]
            written = os.write(descriptor, block[:size])
            done += written
            if written < size:
                break
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return done


def storage_error(error: OSError, path: Path) -> StorageError:
    """What a failed write means, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"the disk is full: cannot write {path}; free some space and run again")
    return StorageError(f"cannot write {path}: {error.strerror or error}; choose a folder that you may write to")


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def as_record(where: object) -> Iterator[None]:
    """Turn what goes wrong with values that no record holds at their places into a RecordError that names `where`."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise RecordError(f"{where}: a value is not what a record holds there ({what})") from error


def differing_names(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Every name whose value differs, or that only one of the two has, sorted."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


class Fields:
    """Typed reading of one JSON or TOML object; an error names the path of the value that is wrong."""

    def __init__(self, value: object, where: str = "") -> None:
        if not isinstance(value, Mapping):
            raise RecordError(f"{where or 'the file'} must hold an object, not {type(value).__name__}")
        self._values = value
        self._where = where

    def path(self, name: str) -> str:
        """The dotted path of `name`, for messages."""
        return f"{self._where}.{name}" if self._where else name

    def names(self) -> set[str]:
        """The keys that are there."""
        return set(self._values)

    def get(self, name: str, kind: type[T]) -> T:
        """The value of `name`, which must be there and be a `kind`."""
        value = self.optional(name, kind)
        if value is None:
            raise RecordError(f"missing value in '{self.path(name)}'")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """The value of `name` or None; a bool is no int here, an int is a float."""
        value: Any = self._values.get(name)
        if value is None:
            return None
        if kind is float and type(value) is int and abs(value) < 2**1023:
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise RecordError(f"'{self.path(name)}' must be {kind.__name__}, not {value!r}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The list of strings `name`; absent counts as empty."""
        values = self.optional(name, list) or []
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise RecordError(f"'{self.path(name)}[{index}]' must be str, not {value!r}")
        return tuple(values)

    def inner(self, name: str) -> "Fields":
        """The object `name`, which must be there."""
        return Fields(self.get(name, dict), self.path(name))


def check_version(fields: Fields, form: str, version: str) -> None:
    """Raise RecordError unless a file is of this format, in a version that can be read; warn of a newer minor one."""
    found = fields.get("format", str)
    what = form.rpartition(".")[2]
    if found != form:
        raise RecordError(f"'format' is {found!r}; this is no {what} of a run")
    given = fields.get("version", str)
    major, _, minor = given.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise RecordError(f"'version' must be like {version}, not {given!r}")
    ours = tuple(int(part) for part in version.split("."))
    if int(major) > ours[0]:
        raise RecordError(f"{what} version {given} is newer than this samebits reads ({version}); upgrade samebits")
    if int(major) < ours[0]:
        raise RecordError(f"there is no {what} version {given}; the first is {ours[0]}.0")
    if (int(major), int(minor)) > ours:
        warnings.warn(f"{what} version {given} is newer than {version}; what is new in it is not shown", stacklevel=2)
