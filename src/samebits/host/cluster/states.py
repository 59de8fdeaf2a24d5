"""How a job stands: what Slurm knows of it, and what it has left in its folder."""

from dataclasses import dataclass

from samebits.core.errors import EXIT_ERROR, EXIT_OK
from samebits.host.cluster import slurm
from samebits.host.cluster.batch_script import NOT_SHARED
from samebits.host.cluster.job_dir import Job, JobDir

QUEUED, RUNNING, PREEMPTED, FINISHED, FAILED, CANCELLED, LOST = (
    "queued",
    "running",
    "preempted",
    "finished",
    "failed",
    "cancelled",
    "lost",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobState:
    """`kind` is one of the constants; `detail` is Slurm's reason, the node, or the message of the end."""

    kind: str
    detail: str = ""
    status: int = EXIT_OK

    @property
    def over(self) -> bool:
        """Whether the job will not go on by itself."""
        return self.kind not in {QUEUED, RUNNING, PREEMPTED}

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})" if self.detail else self.kind


def state_of(folder: JobDir, job: Job) -> JobState:
    """The state of a job. Raises ToolError where Slurm cannot be asked."""
    if job.number is None:
        return JobState(kind=LOST, detail="it was never submitted", status=EXIT_ERROR)
    # Slurm first: what is in the folder may be about an attempt before a requeue.
    active = slurm.active(job.number)
    if active is not None and active.state == slurm.PENDING:
        return JobState(kind=PREEMPTED if folder.attempts() else QUEUED, detail=active.reason)
    if active is not None:
        return JobState(kind=RUNNING, detail=active.node)
    end = folder.read_end()
    if end is not None:
        return JobState(kind=FAILED if end.status else FINISHED, detail=end.message or "", status=end.status)
    return _without_end(folder, job.number)


def _without_end(folder: JobDir, number: str) -> JobState:
    """The state of a job that is over and wrote no end: by what Slurm still knows."""
    known = slurm.ended(number)
    if folder.cancelled.exists() or (known is not None and known.state.startswith(slurm.CANCELLED)):
        by = "by samebits cancel" if folder.cancelled.exists() else "from outside"
        return JobState(kind=CANCELLED, detail=by, status=EXIT_ERROR)
    if known is not None and known.reason == f"{NOT_SHARED}:0":
        detail = f"its node does not see {folder.path.absolute()}; put the runs on a file system that all nodes share"
        return JobState(kind=FAILED, detail=detail, status=EXIT_ERROR)
    detail = "Slurm no longer knows it" if known is None else f"Slurm says {known.state}, exit code {known.reason}"
    return JobState(kind=LOST, detail=f"{detail}, and it left no end", status=EXIT_ERROR)
