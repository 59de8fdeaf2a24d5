"""The record of a run: recipe, environment, result, outcome and timings in one versioned file, finalized once."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest, confirm_checksum, with_checksum
from samebits.core.environment import Environment
from samebits.core.errors import RecordError, pluralize, shorten
from samebits.core.home_path import without_home
from samebits.core.jsonio import (
    Fields,
    check_version,
    is_newer_version,
    read_json,
    readable_json,
    reading,
    write_atomically,
)
from samebits.core.liveness import Host
from samebits.core.origin import Origin
from samebits.core.recipe import Recipe
from samebits.core.result import Coverage, Measured, Result
from samebits.core.retention import NONE, RetentionPolicy
from samebits.core.script_uses import EntropyUse
from samebits.core.timings import Timings
from samebits.core.trace_level import Trace
from samebits.core.trial import Trial

RECORD_FORMAT = "samebits.record"
RECORD_VERSION = "1.9"
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
            "message": None if self.message is None else without_home(self.message),
            "traceback": None if self.traceback is None else without_home(self.traceback),
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


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEnd:
    """Where a finalized record says that its ledger ends: the number of lines, and the digest of the last."""

    lines: int
    last: str

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {"lines": self.lines, "last": self.last}

    @classmethod
    def from_fields(cls, fields: Fields) -> "LedgerEnd":
        """Read what `to_dict` wrote."""
        return cls(lines=fields.get("lines", int), last=fields.get("last", str))


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumability:
    """Whether a run can be resumed exactly, and why not."""

    resumable: bool
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {"resumable": self.resumable, "reasons": list(self.reasons)}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Resumability":
        """Read what `to_dict` wrote."""
        return cls(resumable=fields.get("resumable", bool), reasons=fields.texts("reasons"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One run. `started` is UTC in ISO 8601; `version` is that of the file it was read from.

    `trace` came with version 1.1; before it there were lines for epochs only. `retention` and `resumable` came with
    1.2; before it there were no checkpoints. `resumable` is None until training has begun. `strict` and `trial` came
    with 1.3: whether unseeded randomness is an error, and what is tried, if it is a trial. 1.4 extended `origin`,
    and added `files`: the digest of `files.jsonl`, which holds one for every file of the run's folder, and `host`:
    where the run was started, so that nobody else finalizes it while it lives; and `coverage`: what the result leaves
    out. 1.5 added `inputs`, `image.packages`, `code.module`, `code.pythonpath` and `code.workdir` to the recipe,
    `unpinned` and `script_settings` to the environment, and `ignored` to the coverage. 1.6 added `measured`:
    who took the digests of the result. 1.7 added `multiprocessors` and `mig` to the recipe's device, `redacted` to its
    code, and `git` to the origin. 1.8 added `attempts` to the origin, 1.9 `data_cache`.
    """

    id: str
    level: str
    recipe: Recipe
    started: str
    outcome: Outcome
    origin: Origin
    trace: Trace = field(default_factory=Trace)
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    resumable: Resumability | None = None
    strict: bool = False
    trial: Trial | None = None
    exclude: tuple[str, ...] = ()
    environment: Environment = field(default_factory=Environment)
    result: Result | None = None
    coverage: Coverage | None = None
    measured: Measured | None = None
    ledger: LedgerEnd | None = None
    files: Digest | None = None
    host: Host | None = None
    timings: Timings = field(default_factory=Timings)
    version: str = field(default=RECORD_VERSION, compare=False)
    _read: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def finalized(self) -> bool:
        """Whether the run has ended, and the record may not change any more."""
        return self.outcome.state != RUNNING

    @property
    def result_digest(self) -> Digest | None:
        """Names the result, where there is one."""
        return None if self.result is None else self.result.digest

    @property
    def covers(self) -> str:
        """What the result covers, and what it leaves out."""
        left = 0 if self.coverage is None else self.coverage.discarded
        but = f"; not covered: {pluralize(left, 'layer')} that the script discarded" if left else ""
        claim = f"; computed by the script's process, not checked: {shorten(self.claimed, 3)}" if self.claimed else ""
        return "nothing" if self.result is None else f"{self.result.covers}{but}{claim}"

    @property
    def claimed(self) -> tuple[str, ...]:
        """What the launcher could not measure itself; nothing where it measured nothing at all."""
        return () if self.measured is None else self.measured.claimed

    @property
    def misses_layers(self) -> bool:
        """Whether the script discarded layers that the result does not cover; before version 1.4 nobody looked."""
        return self.coverage is not None and self.coverage.discarded > 0

    @property
    def misses_models(self) -> bool:
        """Whether there were such layers, and the result covers no model at all."""
        return self.misses_layers and self.result is not None and not self.result.models

    @property
    def holds_nothing(self) -> bool:
        """Whether nothing came out, which any two runs would have in common."""
        return self.result is None or self.result.is_empty

    @property
    def final_metrics(self) -> dict[tuple[int, str], str]:
        """The last value of each metric, by the number of its `fit` and its name."""
        return {} if self.result is None else self.result.final_metrics

    @property
    def has_metrics(self) -> bool:
        """Whether there is anything to judge by at the level *metrics*."""
        return bool(self.final_metrics)

    @property
    def entropy(self) -> tuple[EntropyUse, ...]:
        """Where the script took unseeded randomness; before version 1.3 nobody looked."""
        return self.environment.entropy or ()

    def to_dict(self) -> dict[str, Any]:
        """As the file holds it; `seal` is the checksum: the digest of all the rest.

        In our version. Of a newer one that was read, everything stays that we do not know, and so does the version.
        """
        body = self._body()
        if self._read is not None:
            known = replace(self._parse(Fields(self._read)), _read=None).to_dict()
            newer = is_newer_version(self.version, RECORD_VERSION)
            body = with_unknown(body, known, self._read) | {"version": self.version if newer else RECORD_VERSION}
        return with_checksum(body)

    def _body(self) -> dict[str, Any]:
        result_digest = self.result_digest
        return {
            "format": RECORD_FORMAT,
            "version": RECORD_VERSION,
            "id": self.id,
            "goal": self.level,
            "recipe": self.recipe.to_dict(),
            "recipe_digest": str(self.recipe.digest),
            "started": self.started,
            "outcome": self.outcome.to_dict(),
            "trace": self.trace.to_dict(),
            "checkpoints": self.retention.to_dict(),
            "resumable": None if self.resumable is None else self.resumable.to_dict(),
            "strict": self.strict,
            "trial": None if self.trial is None else self.trial.to_dict(),
            "exclude": list(self.exclude),
            "origin": self.origin.to_dict(),
            "environment": self.environment.to_dict(),
            "result": None if self.result is None else self.result.to_dict(),
            "result_digest": None if result_digest is None else str(result_digest),
            "coverage": None if self.coverage is None else self.coverage.to_dict(),
            "measured": None if self.measured is None else self.measured.to_dict(),
            "ledger": None if self.ledger is None else self.ledger.to_dict(),
            "files": None if self.files is None else str(self.files),
            "host": None if self.host is None else self.host.to_dict(),
            "timings": self.timings.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: object, *, check_checksum: bool = True) -> "Record":
        """Read what `to_dict` wrote, or an older or a newer minor version did.

        Raises RecordError for another format, a newer major version, a value of another kind, or a digest that does not
        match. Digests are checked over the values as they were read, so that keys of a newer version are covered.
        """
        fields = Fields(value)
        check_version(fields, RECORD_FORMAT, RECORD_VERSION)
        record = cls._parse(fields)
        if check_checksum:
            confirm_checksum(value, "record")
            _check_digest(fields, "recipe_digest", record.recipe.digest)
            _check_digest(fields, "result_digest", record.result_digest)
        return record

    @classmethod
    def _parse(cls, fields: Fields) -> "Record":
        names = fields.names()
        resumable, trial, result, ledger, host, coverage, measured = map(
            fields.optional_inner, ("resumable", "trial", "result", "ledger", "host", "coverage", "measured")
        )
        return cls(
            id=fields.get("id", str),
            level=fields.get("goal", str),
            recipe=Recipe.from_fields(fields.inner("recipe")),
            started=fields.get("started", str),
            outcome=Outcome.from_fields(fields.inner("outcome")),
            trace=Trace.from_fields(fields.inner("trace")) if "trace" in names else Trace(),
            retention=RetentionPolicy.from_fields(fields.inner("checkpoints"))
            if "checkpoints" in names
            else RetentionPolicy(keep=NONE),
            resumable=None if resumable is None else Resumability.from_fields(resumable),
            strict=fields.get("strict", bool) if "strict" in names else False,
            trial=None if trial is None else Trial.from_fields(trial),
            exclude=fields.texts("exclude"),
            origin=Origin.from_fields(fields.inner("origin")),
            environment=Environment.from_fields(fields.inner("environment")),
            result=None if result is None else Result.from_fields(result),
            coverage=None if coverage is None else Coverage.from_fields(coverage),
            measured=None if measured is None else Measured.from_fields(measured),
            ledger=None if ledger is None else LedgerEnd.from_fields(ledger),
            files=None if fields.optional("files", str) is None else fields.parse("files", Digest.parse),
            host=None if host is None else Host.from_fields(host),
            timings=Timings.from_fields(fields.inner("timings")),
            version=fields.get("version", str),
            _read=fields.rest("seal"),
        )


def finalize(path: Path, record: Record, version: str | None = None) -> None:
    """Write the final record over the running one; raises RecordError where the run's record is finalized already.

    `version` is as `write_record` takes it.
    """
    if not record.finalized:
        raise RecordError("a record is finalized with an outcome, not while it is running")
    if read_record(path).finalized:
        raise RecordError(f"{path} is finalized already and stays as it is")
    write_record(path, record, version)


def write_record(path: Path, record: Record, version: str | None = None) -> None:
    """Write a record atomically; a finalized one becomes read-only.

    `version` is that of the runner which goes on with it, if that is an older one: it refuses what is newer.
    """
    values = record.to_dict()
    if version is not None and is_newer_version(RECORD_VERSION, version):
        values = with_checksum({name: item for name, item in values.items() if name != "seal"} | {"version": version})
    write_atomically(path, readable_json(values), mode=0o444 if record.finalized else 0o644)


def read_record(path: Path, *, check_checksum: bool = True, within: Path | None = None) -> Record:
    """Read one record file; raises RecordError, which names the file. The checksum takes most of the time."""
    value = read_json(path, within)
    with reading(path):
        return Record.from_dict(value, check_checksum=check_checksum)


def summary(folder: Path, record: Record) -> list[str]:
    """The three lines that a run ends with; no result line where there is no result."""
    lines = [f"run {folder}", f"recipe {record.recipe.digest}"]
    return lines if record.result_digest is None else [*lines, f"result {record.result_digest}"]


def interrupted(record: Record, message: str) -> Record:
    """The same run, ended without a record of its own end."""
    return replace(record, outcome=Outcome(state=INTERRUPTED, message=message))


def with_unknown(ours: Any, known: Any, read: Any) -> Any:
    """`ours` with what was `read` beyond `known`, which is our reading of it; what is as it was read stays so."""
    if not all(isinstance(value, dict) for value in (ours, known, read)):
        return read if ours == known else ours
    merged = {name: item for name, item in read.items() if name not in known}
    both = known.keys() & read.keys()
    return merged | {
        name: with_unknown(ours[name], known[name], read[name]) if name in both else ours[name] for name in ours
    }


def _check_digest(fields: Fields, name: str, ours: Digest | None) -> None:
    if fields.optional(name, str) != (None if ours is None else str(ours)):
        raise RecordError(f"'{name}' does not belong to what it names")
