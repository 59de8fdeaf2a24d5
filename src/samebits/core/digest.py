"""One way to name bytes: `sha256:` and 64 hex digits."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields, canonical_json

_WRITTEN = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Digest:
    """A sha256, written `sha256:…`."""

    hex: str

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @property
    def short(self) -> str:
        """Eight hex digits, for names that people read."""
        return self.hex[:8]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form; raises RecordError for anything else."""
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise RecordError(f"not a digest: {text!r}; one is written sha256: and 64 hex digits")
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
            return cls(hashlib.file_digest(file, "sha256").hexdigest())


def confirm_checksum(value: object, what: str) -> None:
    """Raise RecordError unless `seal` is the digest of all the rest of a file's object."""
    if not isinstance(value, Mapping):
        raise RecordError("the file must hold an object")
    expected = Digest.of_json({key: item for key, item in value.items() if key != "seal"})
    if Fields(value).get("seal", str) != str(expected):
        raise RecordError(f"the seal does not match: the {what} was changed after it was written")
