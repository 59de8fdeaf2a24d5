"""`jobs/ID/` in a folder of runs: a run that a cluster trains, from its submission to its end.

`job.json` holds what was submitted, and has a format, a version and a checksum (`seal`). Each attempt to train it is a
run of its own, beside all others.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits import __version__
from samebits.core.digest import confirmed_fields, with_checksum
from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields, read_json, readable_json, reading, write_atomically
from samebits.core.origin import GitCommit
from samebits.core.recipe import Recipe
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.host.cluster.config_file import config_from_fields, config_to_dict
from samebits.host.cluster.pod_job import PodJob, pod_job_name
from samebits.host.runs.attempts import attempts_of, note_attempt, run_name
from samebits.host.runs.registry import named_folder

JOB_FORMAT = "samebits.job"
JOB_VERSION = "1.1"
SLURM, KUBERNETES = "slurm", "kubernetes"
MAX_IN_VAIN = 3
"""Attempts of which none gets further than the first of them."""

JOBS = "jobs"
PREFIX = "job-"
MAX_ATTEMPTS = 10
"""Of a job whose workers are lost again and again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What was submitted: the configuration and its recipe, the site's own flags, and the cluster's id of the job.

    `pods` is what a job on Kubernetes has beyond that; it came with version 1.1.
    """

    id: str
    submitted: str
    recipe: Recipe
    config: RunConfig
    git: GitCommit | None = None
    flags: tuple[str, ...] = ()
    number: str | None = None
    pods: PodJob | None = None

    @property
    def scheduler(self) -> str:
        """The kind of cluster."""
        return SLURM if self.pods is None else KUBERNETES

    def to_dict(self) -> dict[str, Any]:
        """As the file holds it."""
        return with_checksum(
            {
                "format": JOB_FORMAT,
                "version": JOB_VERSION,
                "samebits": __version__,
                "id": self.id,
                "submitted": self.submitted,
                "scheduler": self.scheduler,
                "job": self.number,
                "flags": list(self.flags),
                **({} if self.git is None else {"git": self.git.to_dict()}),
                **({} if self.pods is None else {"kubernetes": self.pods.to_dict()}),
                "recipe": self.recipe.to_dict(),
                "recipe_digest": str(self.recipe.digest),
                "config": config_to_dict(self.config),
            }
        )

    @property
    def pod_job(self) -> PodJob:
        """What only a job on Kubernetes has; raises RecordError for any other."""
        if self.pods is None:
            raise RecordError("the job is none on Kubernetes")
        return self.pods

    @classmethod
    def from_fields(cls, fields: Fields) -> "Job":
        """Read what `to_dict` wrote; raises RecordError."""
        git, pods = fields.optional_inner("git"), fields.optional_inner("kubernetes")
        return cls(
            id=fields.get("id", str),
            submitted=fields.get("submitted", str),
            recipe=Recipe.from_fields(fields.inner("recipe")),
            config=config_from_fields(fields.inner("config")),
            flags=fields.texts("flags"),
            git=None if git is None else GitCommit.from_fields(git),
            number=None
            if fields.optional("job", str) is None
            else fields.parse("job", _number if pods is None else pod_job_name),
            pods=None if pods is None else PodJob.from_fields(pods),
        )


def _number(text: str) -> str:
    """Slurm's id of a job; raises RecordError for what its commands would take as an option."""
    if re.fullmatch(r"[0-9]+(_[0-9]+)?", text) is None:
        raise RecordError(f"{text!r} is no number of a job")
    return text


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnd:
    """How the last attempt on a node ended: the exit status, and one line where it is not 0."""

    status: int
    message: str | None = None
    run: str | None = field(default=None)


@dataclass(frozen=True, slots=True)
class JobDir:
    """The folder of a job."""

    path: Path

    @property
    def file(self) -> Path:
        """What was submitted."""
        return self.path / "job.json"

    @property
    def script(self) -> Path:
        """The batch script, on Slurm."""
        return self.path / "batch.sh"

    @property
    def worker_script(self) -> Path:
        """What starts a worker on another node than the batch script's."""
        return self.path / "worker.sh"

    @property
    def manifest(self) -> Path:
        """The manifest, on Kubernetes."""
        return self.path / "manifest.json"

    @property
    def launcher(self) -> Path:
        """The samebits that starts the training in a pod."""
        return self.path / "launcher"

    @property
    def pods(self) -> Path:
        """Which image each pod of the job ran, as the cluster said."""
        return self.path / "pods.json"

    @property
    def workers(self) -> Path:
        """Where the pods of several workers meet, see `pod_workers`."""
        return self.path / "workers"

    @property
    def call(self) -> Path:
        """What the chief's pod wants of the others."""
        return self.workers / "call.json"

    def answer(self, index: int) -> Path:
        """What the pod of a worker answers."""
        return self.workers / f"{index}.json"

    @property
    def code(self) -> Path:
        """The code as it was at the submission."""
        return self.path / "code"

    @property
    def log(self) -> Path:
        """What the job printed, in all attempts."""
        return self.path / "log.txt"

    @property
    def end(self) -> Path:
        """How the job ended; absent while it waits or runs."""
        return self.path / "end.json"

    @property
    def cancelled(self) -> Path:
        """A file that is there once the user has cancelled the job."""
        return self.path / "cancelled"

    @property
    def runs(self) -> Path:
        """The folder of runs that this job belongs to."""
        return Path(os.path.abspath(self.path)).parent.parent

    def attempts(self) -> list[RunDir]:
        """The runs that were begun for this job, oldest first."""
        return attempts_of(self.path, self.runs)

    def note_attempt(self, run: RunDir) -> None:
        """Note that a run was begun."""
        note_attempt(self.path, run)

    def read(self) -> Job:
        """Read `job.json`; raises RecordError, which names the file."""
        value = read_json(self.file)
        with reading(self.file):
            fields = confirmed_fields(value, JOB_FORMAT, JOB_VERSION)
            return Job.from_fields(fields)

    def write(self, job: Job) -> None:
        """Write `job.json` atomically."""
        write_atomically(self.file, readable_json(job.to_dict()))

    def write_end(self, end: JobEnd) -> None:
        """Write how the job ended."""
        values = {"status": end.status, "message": end.message, "run": end.run}
        write_atomically(self.end, readable_json(values))

    def read_end(self) -> JobEnd | None:
        """How the job ended; None while it waits or runs. Raises RecordError."""
        if not self.end.exists():
            return None
        value = read_json(self.end)
        with reading(self.end):
            fields = Fields(value)
            return JobEnd(
                status=fields.get("status", int),
                message=fields.optional("message", str),
                run=None if fields.optional("run", str) is None else fields.parse("run", run_name),
            )


def find_job(name: str, runs: Path) -> JobDir | None:
    """The job that `name` refers to: its folder, its id, or an unambiguous prefix of it. None for another name."""
    direct = JobDir(Path(name))
    if name and os.path.isfile(direct.file):
        return direct
    if not name.startswith(PREFIX):
        return None
    return named_folder(name, jobs_of(runs), "job", f"in {runs / JOBS}; `samebits list --jobs` shows all")


def require_job(name: str, runs: Path) -> JobDir:
    """The job that `name` refers to; raises InputError."""
    found = find_job(name, runs)
    if found is None:
        raise InputError(f"{name} is not a job: its name begins with {PREFIX}; `samebits list --jobs` shows all")
    return found


def jobs_of(runs: Path) -> list[JobDir]:
    """The jobs of a folder of runs, by name."""
    folder = runs / JOBS
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [found for name in names if os.path.isfile((found := JobDir(folder / name)).file)]


def why_in_vain(job: JobDir) -> str | None:
    """Why another attempt would get no further: the last ones did not either, as where the time limit is too short."""
    reached = [max((at.order for at in run.checkpoints_now.positions()), default=(-1, 0, 0)) for run in job.attempts()]
    if len(reached) < MAX_IN_VAIN or max(reached[1 - MAX_IN_VAIN :]) > max(reached[: 1 - MAX_IN_VAIN]):
        return None
    return (
        f"{MAX_IN_VAIN - 1} attempts in a row got no further than the one before, so the job is not requeued; submit it"
        " again with more time: --sbatch='--time=...'"
    )


def last_attempt(job: JobDir, recipe: Recipe) -> RunDir | None:
    """The youngest run of a job that is there; raises RecordError for one of another recipe."""
    attempts = [run for run in job.attempts() if os.path.lexists(run.record)]
    if not attempts:
        return None
    if attempts[-1].read_summary().recipe != recipe.digest:
        raise RecordError(f"{attempts[-1].record} has another recipe than the job; do not rely on it")
    return attempts[-1]
