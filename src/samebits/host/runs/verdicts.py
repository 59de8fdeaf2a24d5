"""The verdicts that the verifications of a run have left beside it."""

from collections import Counter
from pathlib import Path

from samebits.core.errors import RecordError, pluralize
from samebits.core.run_dir import RunDir
from samebits.host.runs.registry import checksum_of
from samebits.host.runs.verification_file import RecordedVerification, read_verification


def verdicts_on(run: RunDir, runs: Path) -> list[str]:
    """Each verdict on exactly this run in a folder of runs, with how often it was reached."""
    name, checksum = run.read().id, checksum_of(run)
    found = Counter(
        f"{item.verdict} at the level {item.level}"
        for path in sorted(runs.glob("*/verification.json"))
        if (item := _readable(path)) is not None and _is_on(item, name, checksum)
    )
    return [f"{verdict} ({pluralize(times, 'verification')})" for verdict, times in sorted(found.items())]


def _readable(path: Path) -> RecordedVerification | None:
    try:
        return read_verification(path)
    except RecordError:
        # `list` reports it; it says nothing on this run.
        return None


def _is_on(found: RecordedVerification, name: str, checksum: str) -> bool:
    return (found.values["verified"]["id"], found.values["verified"].get("seal")) == (name, checksum)
