"""`verification.json`: what came of a run that verifies another. It outlives us, so it has a version and a seal.

With version 1.1 came `segments`, of a verification in segments: then it stands in a folder of its own.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samebits.core.jsonio import Fields, check_version, readable_json, write_atomically
from samebits.core.digest import Digest, confirm_checksum
from samebits.core.errors import RecordError

FORMAT = "samebits.verification"
VERSION = "1.1"


def with_checksum(body: Mapping[str, Any]) -> dict[str, Any]:
    """With format, version and `seal`, which is the digest of all the rest."""
    whole = {"format": FORMAT, "version": VERSION, **body}
    return whole | {"seal": str(Digest.of_json(whole))}


def write_verification(path: Path, verification: Mapping[str, Any]) -> None:
    """Write a sealed verification, atomically and for good."""
    write_atomically(path, readable_json(verification), mode=0o444)


def read_verification(path: Path) -> dict[str, Any]:
    """What `write_verification` wrote; raises RecordError, which names the file."""
    try:
        value = json.loads(path.read_bytes())
        check_version(Fields(value), FORMAT, VERSION)
        confirm_checksum(value, "verification")
    except (OSError, ValueError, RecordError) as error:
        raise RecordError(f"{path}: {error}") from error
    return dict(value)
