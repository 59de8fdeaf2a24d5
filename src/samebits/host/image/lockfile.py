"""Read a lock that pip-compile wrote: exact pins, each with its hashes, and nothing else."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.run_files import read_given

# `#` starts a comment only after a space, because hashes and URLs may contain it.
_COMMENT = re.compile(r"(^|\s)#.*")
_OPTION = re.compile(r"\s--?[A-Za-z]")
_HASH = re.compile(r"--hash=([^:\s]*):(\S*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One package of a lock: its canonical name, its version, and the sha256 of each allowed file."""

    name: str
    version: str
    hashes: frozenset[Digest]
    marker: str | None
    line: int

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def read_lock(lock: str | Path) -> tuple[Pin, ...]:
    """The pins of a lock in their order; `lock` is its text or its path.

    Raises InputError, with line and package, for every entry that pip would install without checking a hash.
    """
    # Errors name `file:line`; a text without a file is called `lock`.
    where = str(lock) if isinstance(lock, Path) else "lock"
    pins: dict[str, Pin] = {}
    for line, text in logical_lines(lock if isinstance(lock, str) else read_text(lock)):
        pin = _parse_pin(text, line, f"{where}:{line}")
        # Two pins of one package are usually a merge error; both lines are named.
        first = pins.setdefault(pin.name, pin)
        if first is not pin:
            raise InputError(f"{where}:{line}: {pin.name} is already pinned in line {first.line}; drop one of them")
    return tuple(pins.values())


def text_of(pins: Iterable[Pin], *, markers: bool = True) -> str:
    """A lock with these pins: the same text for the same pins, whatever wrote the lock that they come from."""
    blocks = []
    for pin in sorted(pins, key=lambda item: item.name):
        marker = f" ; {pin.marker}" if pin.marker and markers else ""
        hashes = (f"    --hash={digest}" for digest in sorted(pin.hashes, key=lambda item: item.hex))
        blocks.append(" \\\n".join((f"{pin}{marker}", *hashes)) + "\n")
    return "".join(blocks)


def read_text(path: Path, what: str = "the lock", remedy: str = "make one with `samebits lock`") -> str:
    """The text of a lock, or of `what`; raises InputError where it cannot be read."""
    try:
        return read_given(path).decode("utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{what} {path} does not exist; {remedy}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"{what} {path} cannot be read: {reason}; {remedy}") from error


def has_hashes(path: Path) -> bool:
    """Whether a file of requirements is a lock: it has a hash."""
    return "--hash=" in read_text(path, "the requirements")


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each entry with its first line's number; comments are dropped, lines ending in a backslash joined."""
    start, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        bare = _COMMENT.sub("", line).strip()
        start = start if parts else number
        parts.append(bare.removesuffix("\\").strip())
        if not bare.endswith("\\"):
            if entry := " ".join(parts).strip():
                yield start, entry
            parts = []
    if entry := " ".join(parts).strip():
        yield start, entry


def _parse_pin(text: str, line: int, place: str) -> Pin:
    """One entry; `place` is `file:line`, for messages."""
    # Options such as --index-url or -e would let a file in that no hash covers.
    if text.startswith("-"):
        raise InputError(f"{place}: {text.split(maxsplit=1)[0]} is an option; a lock holds pins only, so drop it")
    # Options follow the requirement: the first of them ends it.
    option = _OPTION.search(text)
    requirement = _parse_requirement(text[: option.start()] if option else text, place)
    name = canonicalize_name(requirement.name)
    return Pin(
        name=name,
        version=next(iter(requirement.specifier)).version,
        hashes=_parse_hashes(text[option.start() :] if option else "", f"{place}: {name}"),
        marker=str(requirement.marker) if requirement.marker else None,
        line=line,
    )


def _parse_requirement(text: str, place: str) -> Requirement:
    """Parse `name==version`, optionally with a marker; anything else raises InputError."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        requirement = None
    specifiers = list(requirement.specifier) if requirement else []
    # `==1.*` allows several versions, an extra or a URL adds what is not in the lock.
    exact = len(specifiers) == 1 and specifiers[0].operator == "==" and not specifiers[0].version.endswith(".*")
    if requirement is None or not exact or requirement.extras or requirement.url:
        raise InputError(f"{place}: {text.strip()!r} is not name==version; remake the lock with pip-compile")
    return requirement


def _parse_hashes(options: str, place: str) -> frozenset[Digest]:
    """The hashes of a requirement; `place` is `file:line: package`."""
    hashes = set()
    for option in options.split():
        match = _HASH.fullmatch(option)
        if match is None:
            raise InputError(f"{place} has {option!r}, but only --hash=sha256:… is allowed; drop it")
        if match[1] != "sha256":
            raise InputError(
                f"{place} has a hash of the algorithm {match[1]!r}; only sha256 is supported, so remake the lock"
            )
        try:
            hashes.add(Digest.parse(f"sha256:{match[2]}"))
        except RecordError as error:
            raise InputError(f"{place} has the hash {option!r}, which is not a sha256; remake the lock") from error
    if not hashes:
        raise InputError(f"{place} has no hash; remake the lock with pip-compile --generate-hashes")
    return frozenset(hashes)
