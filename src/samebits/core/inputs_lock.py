"""`inputs.lock`: the files that a script takes from the network, each with its digest. JSON lines, sorted by path.

    {"format": "samebits.inputs", "version": "1.0"}
    {"path": "home/.keras/datasets/mnist.npz", "sha256": "731c…", "size": 11490434, "url": "https://…/mnist.npz"}

A path begins with `home/`, the user's home folder in the run, or with `work/`, the code's folder. A file without a
known URL has none here. The digest that enters the recipe covers paths, sizes and contents, and no URL.
"""

import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.file_tree import Tree, TreeEntry
from samebits.core.jsonio import Fields, check_version, parse_json, write_atomically
from samebits.core.run_files import NotPlainFileError, read_plain

LOCK_NAME = "inputs.lock"
HOME = "home"
WORK = "work"
_FORMAT = "samebits.inputs"
INPUTS_VERSION = "1.0"
_MAX_BYTES = 64 << 20  # about 300,000 files
_URL = re.compile(r"https?://[^\s/@]+(/\S*)?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedFile:
    """One file. Of one that was declared by hand the size may be unknown until it is fetched."""

    path: str
    digest: Digest
    size: int | None = None
    url: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As its line of the lock."""
        values = {"path": self.path, "sha256": self.digest.hex, "size": self.size, "url": self.url}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_fields(cls, fields: Fields) -> "PinnedFile":
        """Read what `to_dict` wrote; raises RecordError."""
        size, url = fields.optional("size", int), fields.optional("url", str)
        if size is not None and size < 0:
            raise RecordError(f"'size' must not be negative, not {size}")
        if url is not None and not _URL.fullmatch(url):
            raise RecordError(f"'url' must begin with http:// or https:// and hold no user name, not {url!r}")
        digest = fields.parse("sha256", lambda text: Digest.parse(f"sha256:{text}"))
        return cls(path=fields.parse("path", check_path), digest=digest, size=size, url=url)


@dataclass(frozen=True, kw_only=True, slots=True)
class InputsLock:
    """All files, sorted by the bytes of their paths."""

    files: tuple[PinnedFile, ...]

    @classmethod
    def of(cls, files: Iterable[PinnedFile]) -> "InputsLock":
        """The lock of these files; raises RecordError for two of one path, or a file where another needs a folder."""
        ordered = tuple(sorted(files, key=lambda file: file.path.encode()))
        paths = {file.path for file in ordered}
        if len(paths) < len(ordered):
            twice = next(one.path for one, other in itertools.pairwise(ordered) if one.path == other.path)
            raise RecordError(f"two files have the path {twice!r}")
        for path in paths:
            if folder := next((str(parent) for parent in Path(path).parents if str(parent) in paths), None):
                raise RecordError(f"{folder!r} is a file, and the folder of {path!r}")
        return cls(files=ordered)

    @property
    def tree(self) -> Tree:
        """The files as a tree, as `hash_tree` finds them in a folder that holds them all."""
        return Tree(
            entries=tuple(TreeEntry(path=file.path, size=file.size or 0, digest=file.digest) for file in self.files)
        )

    @property
    def digest(self) -> Digest:
        """What enters the recipe: paths, sizes and contents."""
        return self.tree.digest

    @property
    def size(self) -> int:
        """The total size in bytes."""
        return sum(file.size or 0 for file in self.files)

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        lines: list[Mapping[str, Any]] = [{"format": _FORMAT, "version": INPUTS_VERSION}]
        lines += [file.to_dict() for file in self.files]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()

    def write(self, path: Path) -> None:
        """Write the file; raises StorageError."""
        write_atomically(path, self.content)


def check_path(path: str) -> str:
    """Return a path that a lock may hold; raises RecordError for anything else."""
    root, *parts = path.split("/")
    if root not in (HOME, WORK) or not parts or any(part in ("", ".", "..") for part in parts):
        raise RecordError(f"a path is home/… or work/…, without '.' and '..', not {path!r}")
    if not path.isprintable():
        raise RecordError(f"a path holds no control character, as {path!r} does")
    return path


def find_lock(folder: Path, root: Path) -> Path:
    """The lock of a script in `folder`: the nearest one up to `root`, else where it would be written."""
    inside = Path(os.path.realpath(root))
    for above in (folder, *folder.absolute().parents):
        if os.path.lexists(above / LOCK_NAME):
            return above / LOCK_NAME
        if not Path(os.path.realpath(above)).is_relative_to(inside) or Path(os.path.realpath(above)) == inside:
            break
    return folder / LOCK_NAME


def read_lock(path: Path) -> InputsLock:
    """Read a lock; raises InputError, which names file and line."""
    try:
        content = read_plain(path, _MAX_BYTES)
    except NotPlainFileError as error:
        raise InputError(f"{path} is no list of inputs: {error.strerror}; remove it") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; `samebits fetch SCRIPT` writes it") from error
    return parse_lock(content, str(path))


def parse_lock(content: bytes, name: str) -> InputsLock:
    """The lock in the bytes of a file; raises InputError, which begins with its `name`."""
    number = 0
    try:
        files = []
        # An empty file has no first line, which is no JSON either.
        for number, line in enumerate(content.splitlines() or [b""], 1):
            fields = Fields(parse_json(line))
            if number == 1:
                check_version(fields, _FORMAT, INPUTS_VERSION)
                continue
            files.append(_complete(PinnedFile.from_fields(fields)))
        number = 0
        return InputsLock.of(files)
    except (ValueError, RecordError) as error:
        where = f"{name}, line {number}" if number else name
        raise InputError(f"{where}: {error}; `samebits fetch SCRIPT` writes the file again") from error


def _complete(file: PinnedFile) -> PinnedFile:
    if file.size is None:
        raise RecordError("missing value in 'size'")
    return file


def read_declared(tables: Iterable[Fields]) -> tuple[PinnedFile, ...]:
    """The files of the tables `[[inputs]]` in `samebits.toml`; raises RecordError.

    Their paths are relative to the folder of that file, or begin with `~/`.
    """
    return InputsLock.of(map(_declared, tables)).files


def _declared(table: Fields) -> PinnedFile:
    if unknown := sorted(table.names() - {"url", "sha256", "path"}):
        raise RecordError(f"unknown key '{table.path(unknown[0])}'; an input has url, sha256 and path")
    path = table.get("path", str)
    full = f"{HOME}/{path[2:]}" if path.startswith("~/") else f"{WORK}/{path}"
    return PinnedFile.from_fields(Fields(table.rest("path") | {"path": full, "url": table.get("url", str)}))


def lock_of(script: Path, root: Path, declared: Iterable[PinnedFile]) -> Path | None:
    """The lock of a script, None if there is none; raises InputError if a declared file is not in it."""
    path = find_lock(script.parent, root)
    lock = read_lock(path) if os.path.lexists(path) else None
    _require_declared(lock, declared)
    return path if lock is not None and lock.files else None


def _require_declared(lock: InputsLock | None, declared: Iterable[PinnedFile]) -> None:
    """Raise InputError for a file of `samebits.toml` that the lock does not hold as it is declared."""
    held = {} if lock is None else {file.path: file.digest for file in lock.files}
    for file in declared:
        if held.get(file.path) != file.digest:
            raise InputError(
                f"samebits.toml declares the input {file.path}, which {LOCK_NAME} does not hold with that sha256;"
                " run `samebits fetch`"
            )
