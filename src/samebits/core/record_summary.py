"""What a list of runs shows of a record: a few values, read without the rest, as there may be thousands of records."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from samebits.core.digest import Digest, ReadJson
from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields, check_version, read_json, reading
from samebits.core.liveness import Host
from samebits.core.record import RECORD_FORMAT, RECORD_VERSION, RUNNING, Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordSummary:
    """`recipe` and `result` are the digests of what the file holds; `seconds` is the total.

    `resumes` and `verifies` are ids of runs. `script` is the code's entry, `metrics` the last fit's final values as
    the record holds them. `cpu` is model and instruction set; it and `runtime` are None for a run that ended early.
    """

    id: str
    level: str
    started: str
    outcome: Outcome
    seed: int
    recipe: Digest
    result: Digest | None
    seconds: float | None
    resumes: str | None
    script: str = ""
    arguments: tuple[str, ...] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    verifies: str | None = None
    host: Host | None = None
    cpu: str | None = None
    runtime: str | None = None

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
        origin, code, host = fields.inner("origin"), recipe.inner("code"), fields.optional_inner("host")
        cpu, runtime = _machine(fields)
        return cls(
            id=fields.get("id", str),
            level=fields.get("goal", str),
            started=fields.get("started", str),
            outcome=Outcome.from_fields(fields.inner("outcome")),
            seed=recipe.get("seed", int),
            recipe=ReadJson.of(recipe).digest,
            result=None if result is None else ReadJson.of(result).digest,
            seconds=fields.inner("timings").optional("total", float),
            resumes=_id(origin, "resumes"),
            script=code.get("entry", str),
            arguments=code.texts("arguments"),
            metrics={} if result is None else _final_metrics(result),
            verifies=_id(origin, "verifies"),
            host=None if host is None else Host.from_fields(host),
            cpu=cpu,
            runtime=runtime,
        )


def _id(origin: Fields, name: str) -> str | None:
    run = origin.optional_inner(name)
    return None if run is None else run.get("id", str)


def _machine(record: Fields) -> tuple[str | None, str | None]:
    """CPU and runtime; None where they cannot be read: `show` reports that."""
    with suppress(RecordError):
        environment = record.inner("environment")
        cpu, runtime = environment.optional_inner("cpu"), environment.optional("runtime", str)
        return None if cpu is None else f"{cpu.get('model', str)} ({cpu.get('instruction_set', str)})", runtime
    return None, None


def _final_metrics(result: Fields) -> dict[str, str]:
    """The last values of the last fit; nothing where they cannot be read: `show` reports that."""
    with suppress(RecordError, LookupError):
        history = result.objects("fits")[-1].inner("history")
        return {name: history.texts(name)[-1] for name in sorted(history.names())}
    return {}


def read_summary(path: Path) -> RecordSummary:
    """The summary of a record file, whose checksum is not checked; raises RecordError, which names the file."""
    value = read_json(path)
    with reading(path):
        return RecordSummary.from_dict(value)
