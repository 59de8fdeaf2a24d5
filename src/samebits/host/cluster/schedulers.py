"""What is different from one cluster to another: the one place that chooses by a job's `scheduler`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from samebits.host.cluster.job_dir import KUBERNETES, Job, JobDir
from samebits.host.cluster.states import JobState

if TYPE_CHECKING:
    from samebits.host.cluster.node import Node
    from samebits.host.launch.runtime import Runtime


class Scheduler(Protocol):
    """A cluster. Its modules `slurm_jobs` and `kubernetes_jobs` have these names."""

    @property
    def POLL_SECONDS(self) -> float:  # noqa: N802  a constant of a module
        """How long to wait between two questions about a job."""

    @property
    def PATIENCE_SECONDS(self) -> float:  # noqa: N802  a constant of a module
        """How long a new attempt waits for the one before, which the cluster may have begun to stop only."""

    @property
    def RUNS_AGAIN(self) -> bool:  # noqa: N802  a constant of a module
        """Whether somebody may start a job again that has written its end."""

    def submit(self, folder: JobDir, job: Job) -> Job:
        """Hand over what is in the job's folder; returns the job with the cluster's id. Raises ToolError."""

    def runtime(self, job: Job) -> "Runtime":
        """On a node: what a job is trained in. Raises InputError."""

    def spread(self, folder: JobDir, job: Job, node: "Node") -> "Callable[[Runtime], Runtime]":
        """On the node of several workers' chief: how a runtime trains with the others. Raises InputError."""

    def state(self, folder: JobDir, job: Job) -> JobState:
        """How a job stands. Raises ToolError where the cluster cannot be asked."""

    def cancel(self, folder: JobDir, job: Job) -> None:
        """End a job that waits or runs."""

    def requeue(self, folder: JobDir, node: "Node") -> None:
        """On a node, after SIGTERM: have the job started again, where that may help."""


def scheduler_of(job: Job) -> Scheduler:
    """The cluster of a job."""
    if job.scheduler == KUBERNETES:
        from samebits.host.cluster import kubernetes_jobs

        return cast("Scheduler", kubernetes_jobs)
    from samebits.host.cluster import slurm_jobs

    return cast("Scheduler", slurm_jobs)


def state_of(folder: JobDir, job: Job) -> JobState:
    """The state of a job. Raises ToolError where its cluster cannot be asked."""
    return scheduler_of(job).state(folder, job)
