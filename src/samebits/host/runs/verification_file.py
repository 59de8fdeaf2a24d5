"""`verification.json`: the verdict of a verification. It has a format, a version and a checksum (`seal`).

Version 1.1 added `segments`. A verification in segments has a folder of its own; any other lies beside its new run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest, confirm_checksum
from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields, check_version, readable_json, write_atomically

VERIFICATION_FORMAT = "samebits.verification"
VERIFICATION_VERSION = "1.1"


def with_checksum(body: Mapping[str, Any]) -> dict[str, Any]:
    """Add format, version and `seal`, the digest of everything else."""
    whole = {"format": VERIFICATION_FORMAT, "version": VERIFICATION_VERSION, **body}
    return whole | {"seal": str(Digest.of_json(whole))}


def write_verification(path: Path, verification: Mapping[str, Any]) -> None:
    """Write a verification atomically, and make it read-only."""
    write_atomically(path, readable_json(verification), mode=0o444)


def read_verification(path: Path) -> dict[str, Any]:
    """Read what `write_verification` wrote; raises RecordError, which names the file."""
    try:
        value = json.loads(path.read_bytes())
        # The version comes first: a newer format may compute its checksum differently.
        check_version(Fields(value), VERIFICATION_FORMAT, VERIFICATION_VERSION)
        confirm_checksum(value, "verification")
    except (OSError, ValueError, RecordError) as error:
        raise RecordError(f"{path}: {error}") from error
    return dict(value)
