"""Digests: the sha256 of bytes, written `sha256:` followed by 64 hex digits."""

import hashlib
import os
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields, canonical_json, check_version

_DIGEST_TEXT = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Digest:
    """A sha256; `str()` gives the written form, `sha256:…`."""

    hex: str

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @property
    def short(self) -> str:
        """The first eight hex digits, for names that people read."""
        return self.hex[:8]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the written form; raises RecordError for anything else."""
        match = _DIGEST_TEXT.fullmatch(text)
        if match is None:
            raise RecordError(f"not a digest: {text!r}; a digest is sha256: followed by 64 hex digits")
        return cls(match[1])

    @classmethod
    def of_bytes(cls, content: bytes) -> Self:
        """The digest of `content`."""
        return cls(hashlib.sha256(content).hexdigest())

    @classmethod
    def of_json(cls, value: object) -> Self:
        """The digest of the canonical JSON of `value`."""
        return cls.of_bytes(canonical_json(value))

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """The digest of a file's content."""
        with path.open("rb") as file:
            # Reads in blocks: data files may be larger than the memory.
            return cls(hashlib.file_digest(file, "sha256").hexdigest())


def digest_threads() -> int:
    """How many threads digest large content: one a core that this process may use, and at most eight."""
    return min(8, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True)
class ReadJson:
    """An object as a file held it, with the digest of its canonical JSON: of all keys, also those of newer versions."""

    values: Mapping[str, Any]
    digest: Digest

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Raise RecordError where there is no canonical JSON of it."""
        values = fields.rest()
        return cls(values, digest_of_read(values))

    def copy(self) -> dict[str, Any]:
        """The values, which may be changed."""
        return deepcopy(dict(self.values))


def digest_of_read(value: object) -> Digest:
    """The digest of what was read; raises RecordError for what only Python takes for JSON: NaN, half a character."""
    try:
        return Digest.of_json(value)
    except (ValueError, RecursionError) as error:
        raise RecordError("it holds NaN, an infinity, or half of a character") from error


def with_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """With the key `seal`, the file's checksum: the digest of all the rest."""
    return {**values, "seal": str(Digest.of_json(values))}


def confirm_checksum(value: object, what: str) -> None:
    """Raise RecordError unless the checksum in `seal` is the digest of the object's other values.

    `what` names the file in the message, such as `record`.
    """
    fields = Fields(value)
    # Computed over the values as read, so that fields of newer versions are covered, too.
    expected = digest_of_read(fields.rest("seal"))
    if fields.get("seal", str) != str(expected):
        raise RecordError(f"the checksum does not match: the {what} was changed after it was written")


def confirmed_fields(value: object, form: str, version: str) -> Fields:
    """The values of a file of this format; raises RecordError for another one, a newer version, or a wrong checksum."""
    fields = Fields(value)
    # The version comes first: a newer format may compute its checksum differently.
    check_version(fields, form, version)
    # No value of a changed file is trusted.
    confirm_checksum(value, form.rpartition(".")[2])
    return fields
