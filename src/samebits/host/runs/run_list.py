"""The list of runs: which to show, the table, and what `list --json` prints."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from samebits.core.errors import InputError
from samebits.core.record import FAILED, FINISHED, INTERRUPTED, RUNNING
from samebits.core.record_summary import RecordSummary
from samebits.host.console import print_table
from samebits.host.runs.listed_run import COLUMNS, ListedRun
from samebits.host.runs.registry import read_runs

OUTCOMES = (FINISHED, FAILED, INTERRUPTED, RUNNING)
_AGE = re.compile(r"(\d{1,6})([mhdw])")
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{1,64}")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFilter:
    """Which runs to list; None is any. `limit` keeps the youngest of those that match."""

    script: str | None = None
    recipe: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.outcome is not None and self.outcome not in OUTCOMES:
            raise InputError(f"the outcome must be one of {', '.join(OUTCOMES)}, not {self.outcome!r}")
        if self.recipe is not None and not _DIGEST.fullmatch(self.recipe):
            raise InputError(f"--recipe takes a digest of hexadecimal digits, or a prefix of it, not {self.recipe!r}")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit must be at least 1, not {self.limit}")

    def select(self, runs: Iterable[ListedRun]) -> list[ListedRun]:
        """The runs that match, in their order."""
        # Nothing is parsed for a list of all: there may be thousands.
        by_summary = any(wanted is not None for wanted in (self.script, self.recipe, self.outcome, self.since))
        found = [run for run in runs if not by_summary or self._matches(run.summary)]
        return found if self.limit is None else found[-self.limit :]

    def _matches(self, summary: RecordSummary) -> bool:
        recipe = str(summary.recipe)
        return (
            (self.script is None or _names(self.script, summary.script))
            and (self.recipe is None or recipe.removeprefix("sha256:").startswith(self.recipe.removeprefix("sha256:")))
            and (self.outcome is None or summary.outcome.state == self.outcome)
            and (self.since is None or _started(summary) >= self.since)
        )


def parse_since(text: str, now: datetime | None = None) -> datetime:
    """A time in ISO 8601 (local, unless it names a zone), or an age such as 2d; raises InputError."""
    try:
        if _AGE.fullmatch(text):
            return (now or datetime.now(UTC)) - parse_age(text)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        examples = "2026-11-27, 2026-11-27T06:00, or an age: 30m, 12h, 2d, 1w"
        raise InputError(f"{text!r} is no time; write {examples}") from error


def parse_age(text: str) -> timedelta:
    """An age such as 2d; raises InputError."""
    if age := _AGE.fullmatch(text):
        return timedelta(**{_UNITS[age[2]]: int(age[1])})
    raise InputError(f"{text!r} is no age; write a number with its unit: 30m, 12h, 2d, 1w")


def list_runs(runs: Path, wanted: RunFilter) -> None:
    """Print the table of a folder's runs on stdout."""
    print_table(COLUMNS, [run.cells for run in wanted.select(read_runs(runs))])


def summarise(run: ListedRun) -> dict[str, Any]:
    """One run as `list --json` prints it."""
    summary = run.summary
    return {
        "id": summary.id,
        "folder": str(run.folder.path),
        "started": summary.started,
        "outcome": summary.outcome.state,
        "message": summary.outcome.message,
        "seconds": summary.seconds,
        "goal": summary.level,
        "seed": summary.seed,
        "recipe": str(summary.recipe),
        "result": None if summary.result is None else str(summary.result),
        "late": list(run.late),
        "resumes": summary.resumes,
        "verifies": summary.verifies,
        "script": summary.script,
        "arguments": list(summary.arguments),
        "metrics": {name: _json_number(text) for name, text in summary.metrics.items()},
    }


def _names(wanted: str, script: str) -> bool:
    """Whether a script is meant by its path, or by the end of it."""
    return script == wanted or script.endswith(f"/{wanted.removeprefix('./')}") or script == wanted.removeprefix("./")


def _started(summary: RecordSummary) -> datetime:
    try:
        found = datetime.fromisoformat(summary.started)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return datetime.min.replace(tzinfo=UTC)


def _json_number(text: str) -> float | str:
    """A metric as a number; a text where JSON has no such number."""
    try:
        number = float.fromhex(text)
    except (ValueError, OverflowError):
        return text
    return number if math.isfinite(number) else str(number)
