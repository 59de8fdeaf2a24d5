"""Values to bytes and back: canonical JSON, exact floats, typed reading, atomic writes."""

import errno
import fcntl
import json
import mmap
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from samebits.core.errors import RecordError, StorageError
from samebits.core.run_files import MAX_JSON_BYTES, read_plain

_Value = TypeVar("_Value")
_DIGITS = re.compile(r"[0-9]{1,18}")
_SHOWN = 40  # characters of a text that is wrong
MAX_OPEN_FILES = 128  # well below the usual limit of 1024 descriptors per process
_DIRECT_WRITE_BYTES = 1 << 20  # larger contents are written with O_DIRECT
_DIRECT_BLOCK_BYTES = 4 << 20  # size of one such write


def canonical_json(value: object) -> bytes:
    """The canonical JSON of `value` in UTF-8: sorted keys, no spaces, no NaN. Digests are computed over it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def readable_json(value: object) -> bytes:
    """The same value, indented for people; `record.json` is written this way."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def exact_float(value: float) -> str:
    """A float as `float.hex` writes it: exact, and the same text on every machine (`nan` and `inf` as words)."""
    return float(value).hex()


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace the file at `path`, or leave it untouched: temporary file beside it, fsync, rename.

    Raises StorageError if the bytes cannot be stored.
    """
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        # The rename comes after fsync; otherwise a power failure could leave an empty file.
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise storage_error(error, path) from error


def write_all(contents: Mapping[Path, Any]) -> None:
    """Write read-only files into one folder, each completely or not at all; raises StorageError.

    Files are flushed in groups, because one fsync per file would take far longer.
    """
    items = list(contents.items())
    # An anonymous mmap starts at a page boundary, as O_DIRECT requires.
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
            # All writes are issued before the first wait, so that the disk can merge them.
            for file in opened.values():
                os.fsync(file.fileno())
        for path, name in temporary.items():
            os.replace(name, path)
    except OSError as error:
        for path, name in temporary.items():
            Path(name).unlink(missing_ok=True)
            path.unlink(missing_ok=True)  # the checkpoint that refers to them will not be written
        raise storage_error(error, next(iter(contents))) from error


def _write(descriptor: int, content: memoryview, block: memoryview) -> None:
    """Write to a new file. Large contents bypass the page cache, if the file system supports it.

    They are not read again soon, and filling the page cache slows the training down more than the disk does.
    """
    done = _write_directly(descriptor, content, block) if len(content) >= _DIRECT_WRITE_BYTES else 0
    while done < len(content):
        done += os.write(descriptor, content[done:])


def _write_directly(descriptor: int, content: memoryview, block: memoryview) -> int:
    """Write whole pages with O_DIRECT through the page-aligned `block`; returns the number of bytes written."""
    flags, done = fcntl.fcntl(descriptor, fcntl.F_GETFL), 0
    # A tmpfs refuses O_DIRECT. A disk error is suppressed, too: the buffered write of the rest reports it again.
    with suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        while size := min(len(block), (len(content) - done) // mmap.PAGESIZE * mmap.PAGESIZE):
            block[:size] = content[done : done + size]
            written = os.write(descriptor, block[:size])
            done += written
            # A short write leaves the position off a block boundary, which O_DIRECT refuses.
            if written < size:
                break
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return done


def storage_error(error: OSError, path: Path) -> StorageError:
    """The StorageError for a failed write to `path`: the cause, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"the disk is full: cannot write {path}; free some space and run again")
    if error.errno == errno.EFBIG:
        return StorageError(f"cannot write {path}: {error.strerror}; raise the limit on the size of files (ulimit -f)")
    return StorageError(f"cannot write {path}: {error.strerror or error}; choose a folder that you may write to")


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that a rename in it survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parse_json(content: bytes | str) -> Any:
    """The value of JSON in UTF-8; raises ValueError, which says what it is instead: `not JSON: it is empty`."""
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {_why_not_json(error)}") from error


class _RepeatedKeyError(ValueError):
    """An object has a key twice: readers differ in which of the values they take, and a checksum covers one."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise _RepeatedKeyError(f"the key {repeated[:_SHOWN]!r} is there twice")
    return found


def _why_not_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, (UnicodeDecodeError, _RepeatedKeyError)):
        return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    if not isinstance(error, json.JSONDecodeError):
        return "a number has too many digits"
    if not error.doc.strip():
        return "it is empty"
    line = f"line {error.lineno}, " if "\n" in error.doc.rstrip() else ""
    # A text without its end is reported at its beginning.
    if error.msg.startswith("Unterminated") or error.pos >= len(error.doc.rstrip()):
        return "it ends too early"
    return f"{line}column {error.colno} cannot be read"


def read_json(path: Path, within: Path | None = None) -> object:
    """What a JSON file holds, a regular one beneath `within`; raises RecordError, which names the file."""
    try:
        return parse_json(read_plain(path, MAX_JSON_BYTES, within))
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RecordError(f"{path} is {error}") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in a RecordError; any other error is a defect of ours, and passes."""
    try:
        yield
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error


def differing_names(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """All names whose values differ, or that only one of the two has, sorted."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


class Fields:
    """Typed access to one JSON or TOML object. Errors name the path of the wrong value.

    `Fields({"epochs": 3}).get("epochs", int)` returns 3.
    """

    def __init__(self, value: object, where: str = "") -> None:
        if not isinstance(value, Mapping):
            raise RecordError(f"{where or 'the file'} must hold an object, not {type(value).__name__}")
        self._values = value
        self._where = where

    def path(self, name: str) -> str:
        """The dotted path of `name`, for messages."""
        return f"{self._where}.{name}" if self._where else name

    def names(self) -> set[str]:
        """The keys of the object."""
        return set(self._values)

    def given(self) -> set[str]:
        """The keys whose value is not null."""
        return {name for name, value in self._values.items() if value is not None}

    def get(self, name: str, kind: type[_Value]) -> _Value:
        """The value of `name`; raises RecordError if it is missing or not of type `kind`."""
        value = self.optional(name, kind)
        if value is None:
            raise RecordError(f"missing value in '{self.path(name)}'")
        return value

    def optional(self, name: str, kind: type[_Value]) -> _Value | None:
        """The value of `name`, or None. A bool does not count as int; an int counts as float."""
        value: Any = self._values.get(name)
        if value is None:
            return None
        # Larger integers would overflow in float().
        if kind is float and type(value) is int and abs(value) < 2**1023:
            value = float(value)
        # bool is a subclass of int.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise RecordError(f"'{self.path(name)}' must be {kind.__name__}, not {value!r}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The list of strings `name`; empty if it is missing."""
        return () if self._values.get(name) is None else self.items(name, str)

    def items(self, name: str, kind: type[_Value]) -> tuple[_Value, ...]:
        """The list `name`, which must be there, each item a `kind`."""
        values = self.get(name, list)
        for index, value in enumerate(values):
            if type(value) is not kind:
                raise RecordError(f"'{self.path(name)}[{index}]' must be {kind.__name__}, not {value!r}")
        return tuple(values)

    def mapping(self, name: str, kind: type[_Value]) -> dict[str, _Value]:
        """The object `name`, which must be there, each value a `kind`."""
        inner = self.inner(name)
        return {key: inner.get(key, kind) for key in sorted(inner.names())}

    def inner(self, name: str) -> "Fields":
        """The nested object `name`; raises RecordError if it is missing."""
        return Fields(self.get(name, dict), self.path(name))

    def optional_inner(self, name: str) -> "Fields | None":
        """The object `name` or None."""
        return None if self._values.get(name) is None else self.inner(name)

    def objects(self, name: str) -> tuple["Fields", ...]:
        """The list of objects `name`, which must be there."""
        where = self.path(name)
        return tuple(Fields(item, f"{where}[{index}]") for index, item in enumerate(self.get(name, list)))

    def parse(self, name: str, parse: Callable[[str], _Value]) -> _Value:
        """What `parse` makes of the string `name`, which must be there; the path goes before its RecordError."""
        text = self.get(name, str)
        try:
            return parse(text)
        except RecordError as error:
            raise RecordError(f"'{self.path(name)}': {error}") from error

    def rest(self, *known: str) -> dict[str, Any]:
        """All values but those of these names."""
        return {name: value for name, value in self._values.items() if name not in known}


def parse_digits(text: str) -> int | None:
    """The number that a text of up to 18 ASCII digits stands for; None for any other text.

    `int` takes the digits of all scripts, and fails for more than 4,300 of them.
    """
    return int(text) if _DIGITS.fullmatch(text) else None


def check_version(fields: Fields, form: str, version: str) -> None:
    """Raise RecordError unless a file has this format and a readable version. A newer minor version only warns."""
    found = fields.optional("format", str)
    what = form.rpartition(".")[2]
    if found is None:
        raise RecordError(f"'format' is missing; the file is not a {what} of a run")
    if found != form:
        raise RecordError(f"'format' is {found!r}; the file is not a {what} of a run")
    given = fields.get("version", str)
    # A newer minor version only adds fields; a newer major version may change their meaning.
    major, _, minor = given.partition(".")
    number = parse_digits(major)
    if number is None or parse_digits(minor) is None:
        raise RecordError(f"'version' must be like {version}, not {given[:_SHOWN]!r}")
    ours = _version_numbers(version)
    if number > ours[0]:
        raise RecordError(f"{what} version {given} is newer than this samebits reads ({version}); upgrade samebits")
    if number < ours[0]:
        raise RecordError(f"there is no {what} version {given}; the first is {ours[0]}.0")
    if is_newer_version(given, version):
        warnings.warn(f"{what} version {given} is newer than {version}; new fields in it are not shown", stacklevel=2)


def is_newer_version(given: str, version: str) -> bool:
    """Whether a file's version, which was checked, is newer than ours."""
    return _version_numbers(given) > _version_numbers(version)


def _version_numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version such as 1.3."""
    return tuple(int(part) for part in version.split("."))
