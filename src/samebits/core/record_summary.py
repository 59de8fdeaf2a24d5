"""What a list of runs shows of a record: a few values, read without the rest, as there may be thousands of records."""

from dataclasses import dataclass
from pathlib import Path

from samebits.core.digest import Digest, ReadJson
from samebits.core.jsonio import Fields, check_version, read_json, reading
from samebits.core.liveness import Host
from samebits.core.record import RECORD_FORMAT, RECORD_VERSION, RUNNING, Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordSummary:
    """`recipe` and `result` are the digests of what the file holds; `seconds` is the total, `resumes` a run's id."""

    id: str
    level: str
    started: str
    outcome: Outcome
    seed: int
    recipe: Digest
    result: Digest | None
    seconds: float | None
    resumes: str | None
    host: Host | None = None

    @property
    def finalized(self) -> bool:
        """Whether the run has ended."""
        return self.outcome.state != RUNNING

    @classmethod
    def from_dict(cls, value: object) -> "RecordSummary":
        """Read it from a whole record; raises RecordError where one of these values is missing, or of another kind."""
        fields = Fields(value)
        check_version(fields, RECORD_FORMAT, RECORD_VERSION)
        recipe, result = fields.inner("recipe"), fields.optional_inner("result")
        resumes, host = fields.inner("origin").optional_inner("resumes"), fields.optional_inner("host")
        return cls(
            id=fields.get("id", str),
            level=fields.get("goal", str),
            started=fields.get("started", str),
            outcome=Outcome.from_fields(fields.inner("outcome")),
            seed=recipe.get("seed", int),
            recipe=ReadJson.of(recipe).digest,
            result=None if result is None else ReadJson.of(result).digest,
            seconds=fields.inner("timings").optional("total", float),
            resumes=None if resumes is None else resumes.get("id", str),
            host=None if host is None else Host.from_fields(host),
        )


def read_summary(path: Path) -> RecordSummary:
    """The summary of a record file, whose checksum is not checked; raises RecordError, which names the file."""
    value = read_json(path)
    with reading(path):
        return RecordSummary.from_dict(value)
