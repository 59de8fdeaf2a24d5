"""`sweeps/ID/` in a folder of runs, and its `sweep.json`: the plan of a sweep, and once all runs ended the summary.

The file has a format, a version and a checksum (`seal`). With the summary in it, it is finalized: read-only, and never
written again.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits import __version__
from samebits.core.digest import Digest, confirmed_fields, with_checksum
from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields, read_json, readable_json, reading, write_atomically
from samebits.core.record import FINISHED, Record
from samebits.core.run_dir import RunDir
from samebits.host.runs.attempts import attempts_of, note_attempt, run_name
from samebits.host.runs.registry import named_folder
from samebits.host.sweep.members import Member
from samebits.host.sweep.statistics import CONFIDENCE, MetricSummary, summarize

SWEEP_FORMAT = "samebits.sweep"
SWEEP_VERSION = "1.0"
SWEEPS = "sweeps"
PREFIX = "sweep-"
COLUMNS = ("grid", "metric", "n", "mean", "sd", "min", "max", f"{CONFIDENCE:.0%} interval of the mean")


@dataclass(frozen=True, slots=True)
class SweepDir:
    """The folder of a sweep. Its runs lie beside all others, in the folder of runs."""

    path: Path

    @property
    def file(self) -> Path:
        """Plan and summary."""
        return self.path / "sweep.json"

    @property
    def code(self) -> Path:
        """The code as it was when the sweep began, from which all its runs are started."""
        return self.path / "code"

    @property
    def lock(self) -> Path:
        """Locked while a process works on the sweep."""
        return self.path / "lock"

    @property
    def runs(self) -> Path:
        """The folder of runs that this sweep belongs to."""
        return Path(os.path.abspath(self.path)).parent.parent

    @property
    def is_there(self) -> bool:
        """Whether it holds a sweep. What has a record is a run, whatever else lies in it."""
        return os.path.isfile(self.file) and not os.path.lexists(RunDir(self.path).record)

    @property
    def is_in_place(self) -> bool:
        """Whether it lies where the folder of its runs can be told from its path."""
        return Path(os.path.abspath(self.path)).parent.name == SWEEPS

    def attempts(self, number: int) -> list[RunDir]:
        """The runs that were begun for a member, oldest first."""
        return attempts_of(self.path, self.runs, number)

    def note_attempt(self, number: int, run: RunDir) -> None:
        """Note that a run was begun for a member: whoever continues the sweep finds it."""
        note_attempt(self.path, run, number)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRun:
    """One member with its recipe, and once it has ended: the run's id and checksum, how it ended, and its result."""

    member: Member
    recipe: Digest
    id: str = ""
    checksum: str = ""
    outcome: str = ""
    message: str | None = None
    result: Digest | None = None
    attempts: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return self.outcome == FINISHED and self.result is not None

    def to_dict(self) -> dict[str, Any]:
        """The form in `sweep.json`."""
        planned = {"seed": self.member.seed, "grid": dict(self.member.grid), "recipe": str(self.recipe)}
        if not self.id:
            return planned
        return {
            **planned,
            "run": self.id,
            "checksum": self.checksum,
            "outcome": self.outcome,
            "message": self.message,
            "result": None if self.result is None else str(self.result),
            "attempts": list(self.attempts),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "SweepRun":
        """Read what `to_dict` wrote."""
        member = Member(seed=fields.get("seed", int), grid=tuple(fields.mapping("grid", str).items()))
        recipe = fields.parse("recipe", Digest.parse)
        if "run" not in fields.given():
            return cls(member=member, recipe=recipe)
        return cls(
            member=member,
            recipe=recipe,
            id=fields.parse("run", run_name),
            checksum=fields.get("checksum", str),
            outcome=fields.get("outcome", str),
            message=fields.optional("message", str),
            result=None if fields.optional("result", str) is None else fields.parse("result", Digest.parse),
            attempts=fields.texts("attempts"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The runs of one combination of the grid: statistics of those that finished, and the names of all others."""

    grid: Mapping[str, str]
    finished: int
    failed: tuple[str, ...]
    metrics: tuple[MetricSummary, ...]

    @property
    def name(self) -> str:
        """The combination, such as `lr=0.1`; empty without a grid."""
        return ", ".join(f"{name}={value}" for name, value in self.grid.items())

    def to_dict(self) -> dict[str, Any]:
        """The form in `sweep.json`."""
        metrics = [metric.to_dict() for metric in self.metrics]
        return {"grid": dict(self.grid), "finished": self.finished, "failed": list(self.failed), "metrics": metrics}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Group":
        """Read what `to_dict` wrote."""
        return cls(
            grid=fields.mapping("grid", str),
            finished=fields.get("finished", int),
            failed=fields.texts("failed"),
            metrics=tuple(map(MetricSummary.from_fields, fields.objects("metrics"))),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """A sweep: `groups` and `alike` are empty, and `digest` is None, until all runs ended.

    `digest` is taken over recipe and result of every run. `alike` lists runs with the same result.
    """

    id: str
    started: str
    script: str
    arguments: tuple[str, ...]
    runs: tuple[SweepRun, ...]
    groups: tuple[Group, ...] = ()
    alike: tuple[tuple[str, ...], ...] = ()
    digest: Digest | None = None
    checksum: str = field(default="", compare=False)

    @property
    def finalized(self) -> bool:
        """Whether all runs ended and are summarized."""
        return self.digest is not None

    @property
    def failed(self) -> tuple[SweepRun, ...]:
        """The runs without a result."""
        return tuple(run for run in self.runs if run.id and not run.finished)

    def notes(self) -> list[str]:
        """What a reader of the numbers must know."""
        failed = [f"{run.member} failed and is in no mean: {run.message or run.outcome}" for run in self.failed]
        same = [
            f"the same result: {'; '.join(names)}: neither seed nor argument changed a bit (does the script set a"
            " seed of its own?)"
            for names in self.alike
        ]
        metrics = [metric for group in self.groups for metric in group.metrics]
        absent = [f"{one.name}: no value in {'; '.join(one.missing)}" for one in metrics if one.missing]
        infinite = [f"{m.name}: no mean: not finite in {'; '.join(m.not_finite)}" for m in metrics if m.not_finite]
        return [*failed, *same, *absent, *infinite]

    def to_dict(self) -> dict[str, Any]:
        """As the file holds it."""
        summary = {
            "groups": [group.to_dict() for group in self.groups],
            "alike": [list(names) for names in self.alike],
            "digest": str(self.digest),
        }
        return with_checksum(
            {
                "format": SWEEP_FORMAT,
                "version": SWEEP_VERSION,
                "samebits": __version__,
                "id": self.id,
                "started": self.started,
                "script": self.script,
                "arguments": list(self.arguments),
                "runs": [run.to_dict() for run in self.runs],
                **(summary if self.finalized else {}),
            }
        )

    @classmethod
    def from_fields(cls, fields: Fields) -> "Sweep":
        """Read what `to_dict` wrote; raises RecordError if a value is missing or of another type."""
        finalized = "digest" in fields.given()
        return cls(
            id=fields.get("id", str),
            started=fields.get("started", str),
            script=fields.get("script", str),
            arguments=fields.texts("arguments"),
            runs=tuple(map(SweepRun.from_fields, fields.objects("runs"))),
            groups=tuple(map(Group.from_fields, fields.objects("groups"))) if finalized else (),
            alike=tuple(_texts(value) for value in fields.items("alike", list)) if finalized else (),
            digest=fields.parse("digest", Digest.parse) if finalized else None,
            checksum=fields.get("seal", str),
        )


def _texts(values: list[Any]) -> tuple[str, ...]:
    return Fields({"alike": values}).texts("alike")


def read_sweep(folder: SweepDir) -> Sweep:
    """Read `sweep.json`; raises RecordError, which names the file."""
    value = read_json(folder.file)
    with reading(folder.file):
        fields = confirmed_fields(value, SWEEP_FORMAT, SWEEP_VERSION)
        found = Sweep.from_fields(fields)
        if found.id != Path(os.path.abspath(folder.path)).name:
            raise RecordError(f"'id' must be the name of its folder, not {found.id!r}")
        return found


def write_sweep(folder: SweepDir, sweep: Sweep) -> None:
    """Write `sweep.json` atomically; with its summary it becomes read-only."""
    write_atomically(folder.file, readable_json(sweep.to_dict()), mode=0o444 if sweep.finalized else 0o644)


def groups_of(runs: Sequence[SweepRun], records: Mapping[str, Record]) -> tuple[Group, ...]:
    """The statistics of each combination of the grid; `records` holds by id those of the runs that finished."""
    grids = dict.fromkeys(run.member.grid for run in runs)
    return tuple(_group(dict(grid), [run for run in runs if run.member.grid == grid], records) for grid in grids)


def _group(grid: Mapping[str, str], runs: Sequence[SweepRun], records: Mapping[str, Record]) -> Group:
    finished = [run for run in runs if run.finished]
    metrics = summarize({str(run.member): records[run.id].final_metrics for run in finished})
    failed = tuple(str(run.member) for run in runs if not run.finished)
    return Group(grid=grid, finished=len(finished), failed=failed, metrics=metrics)


def digest_of(runs: Sequence[SweepRun]) -> Digest:
    """The digest over all runs: of recipe, outcome and result of each, in the order of their recipes."""
    # Neither ids nor times, so that the same sweep has the same digest anywhere.
    values = [[str(run.recipe), run.outcome, None if run.result is None else str(run.result)] for run in runs]
    return Digest.of_json(sorted(values, key=lambda value: str(value[0])))


def alike_of(runs: Sequence[SweepRun]) -> tuple[tuple[str, ...], ...]:
    """The runs that have one result between them, though their recipes differ."""
    results: dict[Digest, list[str]] = {}
    for run in runs:
        if run.result is not None:
            results.setdefault(run.result, []).append(str(run.member))
    return tuple(tuple(names) for names in results.values() if len(names) > 1)


def find_sweep(name: str, runs: Path) -> SweepDir | None:
    """The sweep that `name` refers to: its folder, its id, or an unambiguous prefix of it. None for another name."""
    direct = SweepDir(Path(name))
    if name and direct.is_there and direct.is_in_place:
        return direct
    # Another file of such a name may be a packed run.
    if not name.startswith(PREFIX) or os.path.isfile(name):
        return None
    return named_folder(name, sweeps_of(runs), "sweep", f"in {runs / SWEEPS}; name one of that folder")


def sweeps_of(runs: Path) -> list[SweepDir]:
    """The sweeps of a folder of runs, by name."""
    folder = runs / SWEEPS
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [found for name in names if (found := SweepDir(folder / name)).is_there]


def rows_of(sweep: Sweep) -> list[list[str]]:
    """The table of the metrics, under COLUMNS."""
    return [
        [group.name, f"{metric.name}" if metric.fit == 0 else f"{metric.name} (fit {metric.fit})", *_cells(metric)]
        for group in sweep.groups
        for metric in group.metrics
    ]


def _cells(metric: MetricSummary) -> list[str]:
    numbers = [_cell(value) for value in (metric.mean, metric.sd, metric.minimum, metric.maximum)]
    interval = "" if metric.low is None else f"{_cell(metric.low)} to {_cell(metric.high)}"
    return [str(metric.n), *numbers, interval]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def require_finalized(folder: SweepDir) -> Sweep:
    """The sweep, which must have its summary; raises InputError."""
    sweep = read_sweep(folder)
    if not sweep.finalized:
        raise InputError(f"the sweep {folder.path.name} has no summary yet; continue it by the command that began it")
    return sweep
