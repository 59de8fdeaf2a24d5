"""How a job stands, whichever cluster it is on."""

from dataclasses import dataclass

from samebits.core.errors import EXIT_ERROR, EXIT_OK
from samebits.host.cluster.job_dir import JobDir, JobEnd

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
    """`kind` is one of the constants; `detail` is the cluster's reason, the node, or the message of the end.

    `hopeless` says that a job which waits will not start by itself, as far as can be known.
    """

    kind: str
    detail: str = ""
    status: int = EXIT_OK
    hopeless: bool = False

    @property
    def over(self) -> bool:
        """Whether the job will not go on by itself."""
        return self.kind not in {QUEUED, RUNNING, PREEMPTED}

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})" if self.detail else self.kind


def waiting(folder: JobDir, detail: str, *, hopeless: bool = False) -> JobState:
    """The state of a job that waits for its first attempt, or for another one."""
    return JobState(kind=PREEMPTED if folder.attempts() else QUEUED, detail=detail, hopeless=hopeless)


def ended(end: JobEnd) -> JobState:
    """The state of a job whose node has written an end."""
    return JobState(kind=FAILED if end.status else FINISHED, detail=end.message or "", status=end.status)


def not_submitted() -> JobState:
    """The state of a job without an id: the submitter died."""
    return JobState(kind=LOST, detail="it was never submitted", status=EXIT_ERROR)


def cancelled(folder: JobDir, otherwise: str = "from outside") -> JobState:
    """The state of a job that somebody ended."""
    by = "by samebits cancel" if folder.cancelled.exists() else otherwise
    return JobState(kind=CANCELLED, detail=by, status=EXIT_ERROR)


def not_shared(folder: JobDir) -> JobState:
    """The state of a job whose node does not see its folder."""
    detail = f"its node does not see {folder.path.absolute()}; put the runs on a file system that all nodes share"
    return JobState(kind=FAILED, detail=detail, status=EXIT_ERROR)


def lost(said: str) -> JobState:
    """The state of a job that is over without an end."""
    return JobState(kind=LOST, detail=f"{said}, and it left no end", status=EXIT_ERROR)
