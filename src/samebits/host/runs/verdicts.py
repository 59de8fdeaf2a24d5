"""The verdicts that the verifications of a run have left beside it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from samebits.core.errors import RecordError, pluralize
from samebits.core.run_dir import RunDir
from samebits.host.runs.registry import checksum_of
from samebits.host.runs.verification_file import RecordedVerification, read_verification


def verdicts_on(run: RunDir, runs: Path) -> list[str]:
    """Each verdict on exactly this run in a folder of runs, with how often it was reached."""
    found = Counter(text for _, text in each_verdict_on(run, run.read().id, runs))
    return [f"{verdict} ({pluralize(times, 'verification')})" for verdict, times in sorted(found.items())]


def each_verdict_on(run: RunDir, identifier: str, runs: Path) -> Iterator[tuple[str, str]]:
    """The folder's name and the verdict of each verification of exactly this run, which has this id."""
    wanted = identifier, checksum_of(run)
    for path in sorted(runs.glob("*/verification.json")):
        found = _readable(path)
        if found is not None and (found.values["verified"]["id"], found.values["verified"].get("seal")) == wanted:
            yield path.parent.name, f"{found.verdict} at the level {found.level}"


def _readable(path: Path) -> RecordedVerification | None:
    try:
        return read_verification(path)
    except (RecordError, OSError):
        # `list` reports it; it says nothing on this run.
        return None
