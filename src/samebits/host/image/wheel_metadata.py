"""What wheels say that they need: a lock can lack it that was made with another Python, or by hand."""

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from samebits.core.errors import ImageError, InputError
from samebits.host.image.wheelhouse import Target

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_MAX_BYTES = 16 << 20  # a repository may bring a wheel, whose few bytes unpack to as many as its author likes
_ERRORS = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    StopIteration,
    KeyError,
    NotImplementedError,
    RuntimeError,
    EOFError,
)


def check_dependencies(wheels: Iterable[Path], target: Target) -> None:
    """Raise InputError where one of these wheels needs what none of them is, on the target's Python."""
    needs = [read_metadata(wheel) for wheel in wheels]
    present = {canonicalize_name(raw["name"]): Version(raw["version"]) for raw in needs}
    for raw in needs:
        for need in _needed(raw, target):
            found = present.get(canonicalize_name(need.name))
            if found is None or not need.specifier.contains(found, prereleases=True):
                raise InputError(_unmet(raw, need, found, target))


def read_metadata(wheel: Path) -> RawMetadata:
    """Name, version and requirements of a wheel; raises ImageError for one that has none."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = next(info for info in archive.infolist() if _METADATA.fullmatch(info.filename))
            with archive.open(found) as member:
                content = member.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ImageError(f"the metadata of {wheel} is larger than {_MAX_BYTES >> 20} MiB; use another wheel")
        raw, _ = parse_email(content)
        _ = raw["name"], raw["version"]
    except _ERRORS as error:
        raise ImageError(f"{wheel} is no wheel: {error}; remove it, and make the lock again") from error
    return raw


def _needed(raw: RawMetadata, target: Target) -> Iterator[Requirement]:
    """What holds without extras. Which extras are wanted is in the project's requirements, not in its lock."""
    for text in raw.get("requires_dist", ()):
        try:
            need = Requirement(text)
        except InvalidRequirement:  # of old packages; pip reads some of them
            continue
        if need.marker is None or target.wants(str(need.marker)):
            yield need


def _unmet(raw: RawMetadata, need: Requirement, found: Version | None, target: Target) -> str:
    python = f"{target.python[0]}.{target.python[1]}"
    has = "does not have it" if found is None else f"has {found}"
    return (
        f"{raw['name']} {raw['version']} needs {need.name}{need.specifier} on Python {python}, and the lock {has};"
        f' lock for that Python: python = "{python}" in samebits.toml, then `samebits lock`'
    )
