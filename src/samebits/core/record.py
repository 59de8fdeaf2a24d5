"""The record of a run: recipe, environment, result, outcome and timings in one versioned file, sealed once."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from samebits.core.checkpoint_store import NONE, RetentionPolicy
from samebits.core.digest import Digest, confirm_checksum
from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields, check_version, readable_json, write_atomically
from samebits.core.recipe import Recipe
from samebits.core.trace_level import Trace
from samebits.core.trial import Trial

FORMAT = "samebits.record"
VERSION = "1.3"
RUNNING = "running"
FINISHED = "finished"
FAILED = "failed"
INTERRUPTED = "interrupted"
STATES = (RUNNING, FINISHED, FAILED, INTERRUPTED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How the run ended: `message` is one line, `traceback` the script's own, `exit_status` the script's."""

    state: str
    message: str | None = None
    traceback: str | None = None
    exit_status: int | None = None

    def to_dict(self) -> dict[str, object]:
        """As the record holds it."""
        return {
            "state": self.state,
            "message": self.message,
            "traceback": self.traceback,
            "exit_status": self.exit_status,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Outcome":
        """Read what `to_dict` wrote."""
        state = fields.get("state", str)
        if state not in STATES:
            raise RecordError(f"'{fields.path('state')}' must be one of {', '.join(STATES)}, not {state!r}")
        return cls(
            state=state,
            message=fields.optional("message", str),
            traceback=fields.optional("traceback", str),
            exit_status=fields.optional("exit_status", int),
        )


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class EntropyUse:
    """A place where the script took randomness that no seed reaches: the `call` that stands there, and how often."""

    path: str
    line: int
    call: str
    times: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.call}"

    def to_dict(self) -> dict[str, str | int]:
        """As the record's environment holds it."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Fields) -> "EntropyUse":
        """Read what `to_dict` wrote."""
        line, times = (fields.get(name, int) for name in ("line", "times"))
        return cls(path=fields.get("path", str), line=line, call=fields.get("call", str), times=times)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One run. `origin` says where script and data were found; `timings` are seconds, `started` is UTC in ISO 8601.

    `trace` came with version 1.1; before it there were lines for epochs only. `keeping` and `resumable` came with 1.2;
    before it there were no checkpoints. `resumable` is None until training has begun, else why not, where it is not.
    `strict` and `trial` came with 1.3: whether randomness that no seed reaches is an error, and what is tried, if it is
    a trial.
    """

    id: str
    goal: str
    recipe: Recipe
    started: str
    outcome: Outcome
    trace: Trace = field(default_factory=Trace)
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    resumable: Mapping[str, Any] | None = None
    strict: bool = False
    trial: Trial | None = None
    exclude: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    ledger: Mapping[str, Any] | None = None
    timings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sealed(self) -> bool:
        """Whether the run has ended, and the record may not change any more."""
        return self.outcome.state != RUNNING

    @property
    def result_digest(self) -> Digest | None:
        """Names the result, where there is one."""
        return None if self.result is None else Digest.of_json(self.result)

    @property
    def entropy(self) -> tuple[EntropyUse, ...]:
        """Where the script took randomness that no seed reaches; since 1.3, before it nobody looked."""
        return tuple(EntropyUse.from_fields(Fields(place)) for place in self.environment.get("entropy") or ())

    def to_dict(self) -> dict[str, Any]:
        """As the file holds it; `seal` is the digest of all the rest."""
        result_digest = self.result_digest
        body: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "id": self.id,
            "goal": self.goal,
            "recipe": self.recipe.to_dict(),
            "recipe_digest": str(self.recipe.digest),
            "started": self.started,
            "outcome": self.outcome.to_dict(),
            "trace": self.trace.to_dict(),
            "checkpoints": self.retention.to_dict(),
            "resumable": None if self.resumable is None else dict(self.resumable),
            "strict": self.strict,
            "trial": None if self.trial is None else self.trial.to_dict(),
            "exclude": list(self.exclude),
            "origin": dict(self.origin),
            "environment": dict(self.environment),
            "result": None if self.result is None else dict(self.result),
            "result_digest": None if result_digest is None else str(result_digest),
            "ledger": None if self.ledger is None else dict(self.ledger),
            "timings": dict(self.timings),
        }
        return body | {"seal": str(Digest.of_json(body))}

    @classmethod
    def from_dict(cls, value: object, *, check_seal: bool = True) -> "Record":
        """Read what `to_dict` wrote; raises RecordError for another format, a newer major version or a broken seal."""
        fields = Fields(value)
        check_version(fields, FORMAT, VERSION)
        names = fields.names()
        result = fields.optional("result", dict)
        ledger = fields.optional("ledger", dict)
        record = cls(
            id=fields.get("id", str),
            goal=fields.get("goal", str),
            recipe=Recipe.from_fields(fields.inner("recipe")),
            started=fields.get("started", str),
            outcome=Outcome.from_fields(fields.inner("outcome")),
            trace=Trace.from_fields(fields.inner("trace")) if "trace" in names else Trace(),
            retention=RetentionPolicy.from_fields(fields.inner("checkpoints"))
            if "checkpoints" in names
            else RetentionPolicy(keep=NONE),
            resumable=fields.optional("resumable", dict),
            strict=fields.get("strict", bool) if "strict" in names else False,
            trial=Trial.from_fields(fields.inner("trial")) if fields.optional("trial", dict) is not None else None,
            exclude=fields.texts("exclude"),
            origin=fields.get("origin", dict),
            environment=fields.get("environment", dict),
            result=result,
            ledger=ledger,
            timings=fields.get("timings", dict),
        )
        if check_seal:
            confirm_checksum(value, "record")
            _check_digest(fields, "recipe_digest", record.recipe.digest)
            _check_digest(fields, "result_digest", record.result_digest)
        return record


def finalize(path: Path, record: Record) -> None:
    """Write the final record over the running one; raises RecordError where the run's record is sealed already."""
    if not record.sealed:
        raise RecordError("a record is sealed with an outcome, not while it is running")
    if read_record(path).sealed:
        raise RecordError(f"{path} is sealed already and stays as it is")
    write_record(path, record)


def write_record(path: Path, record: Record) -> None:
    """Write a record atomically; a sealed one becomes read-only."""
    write_atomically(path, readable_json(record.to_dict()), mode=0o444 if record.sealed else 0o644)


def read_record(path: Path, *, check_seal: bool = True) -> Record:
    """Read one record file; raises RecordError, which names the file. The seal takes most of the time."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not JSON: {error}") from error
    try:
        return Record.from_dict(value, check_seal=check_seal)
    except (RecordError, ValueError, RecursionError) as error:  # ValueError: NaN, or half a surrogate pair
        raise RecordError(f"{path}: {error}") from error


def summary(folder: Path, record: Record) -> str:
    """The three lines that a run ends with; no result line where there is no result."""
    lines = [f"run {folder}", f"recipe {record.recipe.digest}"]
    if record.result_digest is not None:
        lines.append(f"result {record.result_digest}")
    return "\n".join(lines)


def interrupted(record: Record, message: str) -> Record:
    """The same run, ended without a word of its own."""
    return replace(record, outcome=Outcome(state=INTERRUPTED, message=message))


def _check_digest(fields: Fields, name: str, ours: Digest | None) -> None:
    if fields.optional(name, str) != (None if ours is None else str(ours)):
        raise RecordError(f"'{name}' does not belong to what it names")
