"""`verification.json`: what came of a run that verifies another. It outlives us, so it has a version and a seal.

With version 1.1 came `segments`, of a verification in segments: then it stands in a folder of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.digest import confirm_checksum, with_checksum
from samebits.core.jsonio import Fields, check_version, read_json, readable_json, reading, write_atomically

FORMAT = "samebits.verification"
VERSION = "1.1"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedVerification:
    """What `verification.json` holds: the id of the verified run, the verdict, and the level it was judged at.

    `values` is the whole file.
    """

    verified: str
    verdict: str
    level: str
    values: Mapping[str, Any]

    @classmethod
    def from_fields(cls, fields: Fields) -> "RecordedVerification":
        """Raise RecordError where a value is missing, or of another kind."""
        return cls(
            verified=fields.inner("verified").get("id", str),
            verdict=fields.get("verdict", str),
            level=fields.get("goal", str),
            values=fields.rest(),
        )


def complete_verification(body: Mapping[str, Any]) -> dict[str, Any]:
    """With format, version and checksum."""
    return with_checksum({"format": FORMAT, "version": VERSION, **body})


def write_verification(path: Path, verification: Mapping[str, Any]) -> None:
    """Write a complete verification, atomically and for good."""
    write_atomically(path, readable_json(verification), mode=0o444)


def read_verification(path: Path) -> RecordedVerification:
    """What `write_verification` wrote; raises RecordError, which names the file."""
    value = read_json(path)
    with reading(path):
        fields = Fields(value)
        check_version(fields, FORMAT, VERSION)
        confirm_checksum(value, "verification")
        return RecordedVerification.from_fields(fields)
