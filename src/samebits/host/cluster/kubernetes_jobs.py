"""Jobs on Kubernetes, as `schedulers.Scheduler` wants them: states from the Job, its pods and the job's folder."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_ERROR
from samebits.host.cluster import kubernetes
from samebits.host.cluster.batch_script import NOT_SHARED
from samebits.host.cluster.job_dir import Job, JobDir
from samebits.host.cluster.kubernetes import JobName, JobObject, Pod
from samebits.host.cluster.manifest import NOT_FINAL, TERMINATION_SECONDS, named_in
from samebits.host.cluster.pod_images import note_images, wrong_image
from samebits.host.cluster.states import (
    FAILED,
    RUNNING,
    JobState,
    cancelled,
    ended,
    lost,
    not_shared,
    not_submitted,
    waiting,
)
from samebits.host.console import log

if TYPE_CHECKING:
    from samebits.host.cluster.node import Node
    from samebits.host.launch.runtime import Runtime

POLL_SECONDS = 2.0
PATIENCE_SECONDS = TERMINATION_SECONDS + 10.0
RUNS_AGAIN = False
_HOPELESS = {
    *("CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull", "ErrImagePull", "FailedMount"),
    *("ImagePullBackOff", "InvalidImageName"),
}
"""Reasons for which a pod usually waits for good: what it needs is not there."""


def submit(folder: JobDir, job: Job) -> Job:
    """Create the object of a job's manifest."""
    namespace, own = named_in(folder.manifest)
    name = JobName(context=job.pod_job.context, namespace=namespace, name=own)
    uid = kubernetes.create(folder.manifest, name)
    return replace(job, number=str(name), pods=replace(job.pod_job, uid=uid))


def runtime(job: Job) -> "Runtime":
    """In a pod: the image around this process."""
    from samebits.host.launch.pod import PodImage, pod_runtime

    asked = PodImage(image=job.pod_job.image, config=job.recipe.image.config, server=job.pod_job.server)
    return pod_runtime(job.config, asked)


def spread(folder: JobDir, job: Job, node: "Node") -> "Callable[[Runtime], Runtime]":
    """The others are pods of the same Job."""
    from samebits.host.cluster.pod_workers import RollCall

    return RollCall(folder, job.config.workers, node).spread


def state(folder: JobDir, job: Job) -> JobState:
    """The state of a job. Raises ToolError where the cluster cannot be asked."""
    if job.number is None:
        return not_submitted()
    name = name_of(job)
    end, found = folder.read_end(), kubernetes.find_job(name)
    pods = [] if found is None else kubernetes.pods_of(name)
    note_images(folder, pods)
    if wrong := wrong_image(folder, job):
        return JobState(kind=FAILED, detail=wrong, status=EXIT_ERROR)
    # No pod changes an end that is there, but by finding another result.
    if end is not None:
        return ended(end)
    if found is None or found.uid != job.pod_job.uid:
        return cancelled(folder, "deleted from outside")
    return _of_object(folder, name, found, pods, job.config.workers)


def cancel(folder: JobDir, job: Job) -> None:
    """Delete the object; its pod ends the run as interrupted."""
    name = name_of(job)
    note_images(folder, kubernetes.pods_of(name))
    kubernetes.delete(name)


def requeue(folder: JobDir, node: "Node") -> None:  # noqa: ARG001  the Job starts another pod
    """Say what happens: a Job starts another pod, unless it is gone."""
    log("stopped ahead of time; another pod resumes")


def name_of(job: Job) -> JobName:
    """The object of a submitted job."""
    namespace, _, name = str(job.number).partition("/")
    return JobName(context=job.pod_job.context, namespace=namespace, name=name)


def _of_object(folder: JobDir, name: JobName, found: JobObject, pods: list[Pod], workers: int) -> JobState:
    """The state of a job that is there and wrote no end."""
    if found.ended:
        return _without_end(folder, found.reason or found.ended, pods)
    if found.suspended:
        return waiting(folder, "suspended: it waits for its queue")
    if workers == 1:
        return _of_pod(folder, name, pods)
    states = [_of_pod(folder, name, [pod for pod in pods if pod.index == index]) for index in range(workers)]
    # The job trains once the last of them runs, and never where one waits for good.
    waits = [index for index, one in enumerate(states) if one.kind != RUNNING]
    if not waits:
        return JobState(kind=RUNNING, detail=", ".join(one.detail for one in states))
    index = next((index for index in waits if states[index].hopeless), waits[0])
    return replace(states[index], detail=f"worker {index}: {states[index].detail}")


def _of_pod(folder: JobDir, name: JobName, pods: list[Pod]) -> JobState:
    """The state by the youngest of some pods, of which at most one is to run."""
    left = [pod for pod in pods if not pod.deleted]
    if left and left[-1].exit_code == NOT_SHARED:
        # A server that cannot be told which ends are final starts some more pods.
        return waiting(folder, not_shared(folder).detail, hopeless=True)
    if not left and pods and pods[-1].node:
        # Its node may be lost. Then nothing confirms the pod's end, and the server makes no other one.
        last = pods[-1]
        return waiting(folder, f"its pod on {last.node} was to end by {last.deleted}; another one follows its end")
    if not left or left[-1].phase in {"Failed", "Succeeded"}:
        return waiting(folder, "it waits for a pod")
    pod = left[-1]
    if pod.running:
        return JobState(kind=RUNNING, detail=pod.node)
    reason, message = pod.reason, pod.message
    # What a pod waits for before its container exists, only its events say.
    if pod.node and reason in {"", "ContainerCreating", "PodInitializing"}:
        reason, _, message = kubernetes.last_failure(name, pod).partition(": ")
    detail = " ".join(f"{reason}: {message}".split()).strip(": ") or "its container is being made"
    on = f" on {pod.node}" if pod.node else ""
    # A pod that does not fit waits for a node. One whose claim is missing waits for good.
    unclaimed = "persistentvolumeclaim" in message and "not found" in message
    return waiting(folder, f"{detail}{on}", hopeless=unclaimed or reason in _HOPELESS)


def _without_end(folder: JobDir, reason: str, pods: list[Pod]) -> JobState:
    """The state of a job that is over and wrote no end: by what the cluster still knows."""
    if folder.cancelled.exists():
        return cancelled(folder)
    # Of several workers, the one that failed: others were ended for it.
    codes = [pod.exit_code for pod in pods if pod.exit_code is not None]
    last = next((code for code in codes if code not in NOT_FINAL), codes[-1] if codes else None)
    if last == NOT_SHARED:
        return not_shared(folder)
    code = "" if last is None else f", exit code {last}"
    return lost(f"Kubernetes says {reason}{code}")
