"""`capsule.json`: what a capsule holds. It is the first file of the archive, and names every other one with its digest.

    {"format": "samebits.capsule", "version": "1.0", "run": "…", "members": [{"path": "README.txt", …}, …], "seal": "…"}

The order of the files, and each byte around them, follow from it: see `archive`.
"""

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from samebits import __version__
from samebits.core.digest import Digest, confirmed_fields, with_checksum
from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields, canonical_json, parse_json
from samebits.core.run_files import MAX_DEPTH, MAX_FILES, safe_path

NAME = "capsule.json"
README, REPORT = "README.txt", "report.html"
RUN, DATA, INPUTS, IMAGE, WHEELS, BASE, CHECKPOINTS = "run", "data", "inputs", "image", "wheels", "base", "checkpoints"
PARTS = (IMAGE, BASE, WHEELS, DATA, INPUTS, CHECKPOINTS)
"""What can be left out."""

MAX_BYTES = 256 << 20  # of capsule.json; a million files have about 200 MiB
_FORMAT, CAPSULE_VERSION = "samebits.capsule", "1.0"
_ON_TOP = (README, REPORT)
_FOLDERS = (RUN, DATA, INPUTS, IMAGE, WHEELS)
_MAX_NAME = 255  # bytes of one name in a path, on any file system
_UNKNOWN = Digest("0" * 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file. An empty folder has a path that ends in `/`. A `stored` one lies in a store beside the capsule."""

    path: str
    size: int = 0
    digest: Digest | None = None
    executable: bool = False
    stored: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it is an empty folder."""
        return self.path.endswith("/")

    def to_dict(self) -> dict[str, Any]:
        """As `capsule.json` holds it."""
        if self.is_folder:
            return {"path": self.path}
        flags = {"executable": self.executable, "stored": self.stored}
        known = {name: True for name, value in flags.items() if value}
        return {"path": self.path, "size": self.size, "digest": str(self.digest or _UNKNOWN), **known}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Member":
        """Read what `to_dict` wrote; raises RecordError."""
        path = fields.parse("path", check_path)
        if path.endswith("/"):
            return cls(path=path)
        size = fields.get("size", int)
        if size < 0:
            raise RecordError(f"'size' of {path!r} must not be negative, not {size}")
        return cls(
            path=path,
            size=size,
            digest=fields.parse("digest", Digest.parse),
            executable=fields.optional("executable", bool) or False,
            stored=fields.optional("stored", bool) or False,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What a capsule holds: `record` is the checksum of the run's record, `image` the digest of its configuration.

    `without` are parts that were not packed, `left_out` paths of the run that are neither file nor folder.
    """

    run: str
    record: str
    recipe: str
    result: str | None
    image: str | None
    without: tuple[str, ...]
    left_out: tuple[str, ...]
    members: tuple[Member, ...]
    samebits: str = __version__

    @property
    def content(self) -> bytes:
        """The bytes of `capsule.json`. Their number does not depend on digests."""
        body = {
            "format": _FORMAT,
            "version": CAPSULE_VERSION,
            "samebits": self.samebits,
            "run": self.run,
            "record": self.record,
            "recipe": self.recipe,
            "result": self.result,
            "image": self.image,
            "without": list(self.without),
            "left_out": list(self.left_out),
            "members": [member.to_dict() for member in self.members],
        }
        return canonical_json(with_checksum(body)) + b"\n"

    @property
    def digest(self) -> Digest:
        """Names the whole capsule: it covers every byte."""
        return Digest.of_bytes(self.content)

    def below(self, folder: str) -> list[Member]:
        """The files in a folder of the capsule."""
        return [member for member in self.members if member.path.startswith(f"{folder}/") and not member.is_folder]

    def with_members(self, members: Iterable[Member]) -> "Contents":
        """With other files."""
        return replace(self, members=tuple(members))


def read_contents(content: bytes) -> Contents:
    """Read a `capsule.json`; raises RecordError for any byte that samebits would not write."""
    try:
        value = parse_json(content)
    except ValueError as error:
        raise RecordError(f"it is {error}") from error
    fields = confirmed_fields(value, _FORMAT, CAPSULE_VERSION)
    # One way to write the same value: a changed byte between two values is found, too.
    if canonical_json(value) + b"\n" != content:
        raise RecordError("it is not written as samebits writes it")
    members = tuple(map(Member.from_fields, fields.objects("members")))
    _check_members(members)
    return Contents(
        samebits=fields.get("samebits", str),
        run=fields.get("run", str),
        record=fields.get("record", str),
        recipe=fields.get("recipe", str),
        result=fields.optional("result", str),
        image=fields.optional("image", str),
        without=fields.texts("without"),
        left_out=fields.texts("left_out"),
        members=members,
    )


def check_path(path: str) -> str:
    """Return a path that a capsule may hold; raises RecordError for anything else."""
    safe_path(path)
    folder, _, name = path.partition("/")
    if not ((folder in _FOLDERS and name) or path in _ON_TOP):
        raise RecordError(f"{path!r} is no path of a capsule")
    names = path.removesuffix("/").split("/")
    try:
        fits = all(len(name.encode()) <= _MAX_NAME for name in names)
    except UnicodeEncodeError as error:
        raise RecordError(f"{path!r} is not UTF-8") from error
    if not fits or len(names) > MAX_DEPTH:
        raise RecordError(f"{path!r} is longer or deeper than any path of a run")
    return path


def order(member: Member) -> tuple[bool, bytes]:
    """Sorts files: what people read first, then all by the bytes of their paths."""
    return member.path not in _ON_TOP, member.path.encode()


def _check_members(members: Sequence[Member]) -> None:
    """Raise RecordError for two files of one path, a file where another needs a folder, or another order."""
    if len(members) > MAX_FILES:
        raise RecordError(f"it names more than {MAX_FILES} files")
    paths = {member.path.removesuffix("/") for member in members}
    if len(paths) < len(members):
        names = sorted(member.path.removesuffix("/") for member in members)
        twice = next(one for one, other in itertools.pairwise(names) if one == other)
        raise RecordError(f"it names {twice!r} twice")
    for member in members:
        if folder := _file_above(member.path.removesuffix("/"), paths):
            raise RecordError(f"{folder!r} is no folder, and holds {member.path!r}")
    if list(members) != sorted(members, key=order):
        raise RecordError("its files are not sorted")


def _file_above(path: str, paths: set[str]) -> str | None:
    above = os.path.dirname(path)
    while above and above not in paths:
        above = os.path.dirname(above)
    return above or None
