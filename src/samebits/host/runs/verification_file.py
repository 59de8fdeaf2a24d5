"""`verification.json`: the verdict of a verification. It has a format, a version and a checksum (`seal`).

Version 1.1 added `segments`, 1.2 `covers`, 1.3 `sweep`: a sweep's runs. A verification in segments, or of a sweep, has
a folder of its own. Any other lies beside its new run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.digest import confirmed_fields, with_checksum
from samebits.core.jsonio import Fields, read_json, readable_json, reading, write_atomically

VERIFICATION_FORMAT = "samebits.verification"
VERIFICATION_VERSION = "1.3"


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
        """Raises RecordError if a value is missing or of another type."""
        return cls(
            verified=fields.inner("verified").get("id", str),
            verdict=fields.get("verdict", str),
            level=fields.get("goal", str),
            values=fields.rest(),
        )


def complete_verification(body: Mapping[str, Any]) -> dict[str, Any]:
    """Add format, version and `seal`, the digest of everything else."""
    return with_checksum({"format": VERIFICATION_FORMAT, "version": VERIFICATION_VERSION, **body})


def write_verification(path: Path, verification: Mapping[str, Any]) -> None:
    """Write a verification atomically, and make it read-only."""
    write_atomically(path, readable_json(verification), mode=0o444)


def read_verification(path: Path) -> RecordedVerification:
    """Read what `write_verification` wrote; raises RecordError, which names the file."""
    value = read_json(path)
    with reading(path):
        fields = confirmed_fields(value, VERIFICATION_FORMAT, VERIFICATION_VERSION)
        return RecordedVerification.from_fields(fields)
