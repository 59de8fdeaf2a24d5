"""Jobs on Slurm, as `schedulers.Scheduler` wants them: a batch script, and states from `slurm` and the job's folder."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_ERROR, ToolError
from samebits.host.cluster import slurm
from samebits.host.cluster.batch_script import NOT_BEGUN, batch_script, output_pattern
from samebits.host.cluster.job_dir import Job, JobDir, JobEnd, why_in_vain
from samebits.host.cluster.states import RUNNING, JobState, cancelled, ended, lost, not_shared, not_submitted, waiting
from samebits.host.console import log

if TYPE_CHECKING:
    from samebits.host.cluster.node import Node
    from samebits.host.launch.runtime import Runtime

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 0.0
RUNS_AGAIN = True


def job_script(folder: JobDir, runtime: str, workers: int = 1) -> str:
    """The script that Slurm starts on a node, in each attempt; several workers get a node each."""
    path = folder.path.absolute()
    flags = (
        f"--output={output_pattern(folder.log.absolute())}",
        "--open-mode=append",
        "--requeue",
        "--signal=B:TERM@60",
        *((f"--nodes={workers}", f"--ntasks={workers}") if workers > 1 else ()),
    )
    return batch_script(needs=folder.file.absolute(), flags=flags, arguments=(str(path),), runtime=runtime)


def worker_script(folder: JobDir, runtime: str) -> str:
    """What starts a worker on another node than the batch script's."""
    arguments = ("--worker", str(folder.path.absolute()))
    return batch_script(needs=folder.file.absolute(), flags=(), arguments=arguments, more=' "$@"', runtime=runtime)


def submit(folder: JobDir, job: Job) -> Job:
    """Submit the script of a job's folder."""
    return replace(job, number=slurm.submit(folder.script, job.flags))


def runtime(job: Job) -> "Runtime":
    """What this node has to run the submitted image in, or the submitted virtual environment."""
    from samebits.host.launch.runtime import choose_runtime

    return choose_runtime(job.config, job.recipe.image)


def spread(folder: JobDir, job: Job, node: "Node") -> "Callable[[Runtime], Runtime]":
    """The others train as tasks on the job's nodes."""
    from samebits.host.cluster.worker_tasks import on_nodes

    return lambda found: on_nodes(found, folder, node.job, job.config.workers)


def state(folder: JobDir, job: Job) -> JobState:
    """The state of a job. Raises ToolError where Slurm cannot be asked."""
    if job.number is None:
        return not_submitted()
    # Slurm first: what is in the folder may be about an attempt before a requeue.
    active = slurm.active(job.number)
    if active is not None and active.state == slurm.PENDING:
        return waiting(folder, active.reason)
    if active is not None:
        return JobState(kind=RUNNING, detail=active.node)
    end = folder.read_end()
    return _without_end(folder, job.number) if end is None else ended(end)


def cancel(folder: JobDir, job: Job) -> None:  # noqa: ARG001  another cluster's jobs leave notes in the folder
    """Cancel a job that waits or runs."""
    slurm.cancel(str(job.number))


def requeue(folder: JobDir, node: "Node") -> None:
    """Have a job started again after SIGTERM. Slurm itself does so after a preemption, and not after scancel."""
    # What Slurm does not answer now, its own requeue decides.
    with suppress(ToolError):
        active = slurm.active(node.job) if node.job else None
        # An attempt on a node that was declared dead must not end the one in its place.
        if active is None or active.state != slurm.RUNNING or slurm.restarts(node.job) != node.restarts:
            return
        if why := why_in_vain(folder):
            folder.write_end(JobEnd(status=EXIT_ERROR, message=why))
            log(why)
            return
        log("stopped ahead of time; the job is requeued and resumes")
        slurm.requeue(node.job)


def _without_end(folder: JobDir, number: str) -> JobState:
    """The state of a job that is over and wrote no end: by what Slurm still knows."""
    known = slurm.ended(number)
    if folder.cancelled.exists() or (known is not None and known.state.startswith(slurm.CANCELLED)):
        return cancelled(folder)
    if known is not None and known.reason in NOT_BEGUN:
        return not_shared(folder)
    return lost("Slurm no longer knows it" if known is None else f"Slurm says {known.state}, exit code {known.reason}")
