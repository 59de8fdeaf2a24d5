"""The only module that talks to Kubernetes, through `kubectl`: create a Job, ask for it and its pods, delete it."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.errors import InputError, RecordError, ToolError
from samebits.core.jsonio import Fields, parse_digits
from samebits.host.cluster.pod_job import INDEX_ANNOTATION
from samebits.host.subprocesses import run_tool

_LIMIT = 60.0  # seconds, for one call of kubectl
_NOT_FOUND = "(NotFound)"
_ASKING = "asking for the job"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobName:
    """A Job object: the kubeconfig's context (None: the current one), the namespace and the name."""

    context: str | None
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pod:
    """A pod of a Job, as the server knows it: why it waits, how its container ended, the image that it ran.

    `index` is that of an Indexed Job, else 0. `deleted` is when a deleted pod is to have ended.
    """

    name: str
    uid: str
    phase: str
    created: str = ""
    node: str = ""
    index: int = 0
    deleted: str = ""
    running: bool = False
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    image_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobObject:
    """A Job: its uid, whether it is suspended, and the condition that ended it, with its reason."""

    uid: str
    suspended: bool = False
    ended: str = ""
    reason: str = ""


def current_namespace(context: str | None) -> str:
    """The namespace of the kubeconfig's context."""
    path = "--output=jsonpath={.contexts[0].context.namespace}"
    words = ["config", "view", "--minify", path]
    return _kubectl(context, words, "reading the kubeconfig").strip() or "default"


def server_version(context: str | None) -> str:
    """The version of the API server, such as `v1.31.2`; raises ToolError if none answers."""
    text = _kubectl(context, ["version", "--output=json"], "asking for the version of Kubernetes")
    try:
        return Fields(json.loads(text)).inner("serverVersion").get("gitVersion", str)
    except (ValueError, RecordError) as error:
        raise ToolError(f"the API server of Kubernetes gives no version: {error}") from error


def create(manifest: Path, job: JobName, *, dry_run: bool = False) -> str:
    """Create the object of a manifest; returns its uid. Raises ToolError with the server's own words.

    `dry_run` has the server check it only.
    """
    words = ["create", f"--namespace={job.namespace}", f"--filename={manifest}", "--output=json"]
    text = _kubectl(job.context, [*words, *(["--dry-run=server"] if dry_run else [])], "submitting the job")
    return str(json.loads(text)["metadata"].get("uid", ""))


def find_job(job: JobName) -> JobObject | None:
    """The object of a job; None if it is gone."""
    text = _query(job, ["get", "job", job.name, "--output=json"])
    if text is None:
        return None
    found: dict[str, Any] = json.loads(text)
    conditions = found.get("status", {}).get("conditions") or []
    over: dict[str, str] = next(
        (item for item in conditions if item.get("status") == "True" and item["type"] in _OVER), {}
    )
    return JobObject(
        uid=found["metadata"]["uid"],
        suspended=bool(found.get("spec", {}).get("suspend")),
        ended=over.get("type", ""),
        reason=_line(over.get("reason"), over.get("message")),
    )


_OVER = ("Complete", "Failed")


def pods_of(job: JobName) -> list[Pod]:
    """The pods of a job, oldest first."""
    text = _query(job, ["get", "pods", f"--selector=job-name={job.name}", "--output=json"])
    found = [_pod(item) for item in json.loads(text)["items"]] if text else []
    return sorted(found, key=lambda pod: (pod.created, pod.name))


def last_failure(job: JobName, pod: Pod) -> str:
    """The reason and message of what last failed for a pod; empty if nothing did."""
    chosen = f"--field-selector=involvedObject.uid={pod.uid},type=Warning"
    text = _query(job, ["get", "events", chosen, "--sort-by=.lastTimestamp", "--output=json"])
    # Other warnings, as of a missing DNS server, keep no pod from starting.
    events = [event for event in json.loads(text)["items"] if event["reason"].startswith("Failed")] if text else []
    return _line(events[-1].get("reason"), events[-1].get("message")) if events else ""


def delete(job: JobName) -> None:
    """Delete a job. Its pods get SIGTERM."""
    words = ["delete", "job", job.name, f"--namespace={job.namespace}", "--ignore-not-found", "--wait=false"]
    _kubectl(job.context, words, "cancelling the job")


def _pod(item: dict[str, Any]) -> Pod:
    metadata, status = item["metadata"], item.get("status", {})
    container: dict[str, Any] = next(iter(status.get("containerStatuses") or ()), {})
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    # Before a pod has a node, a condition says why.
    unscheduled: dict[str, str] = next(
        (one for one in status.get("conditions") or () if one["type"] == "PodScheduled" and one["status"] == "False"),
        {},
    )
    why = waiting or unscheduled or ended or status
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        created=metadata.get("creationTimestamp") or "",
        phase=status.get("phase", ""),
        node=item.get("spec", {}).get("nodeName") or "",
        index=parse_digits((metadata.get("annotations") or {}).get(INDEX_ANNOTATION, "")) or 0,
        deleted=metadata.get("deletionTimestamp") or "",
        running="running" in state,
        reason=why.get("reason") or "",
        message=why.get("message") or "",
        exit_code=ended.get("exitCode"),
        image_id=container.get("imageID") or "",
    )


def _line(*texts: str | None) -> str:
    return " ".join(": ".join(text for text in texts if text).split())


def _query(job: JobName, words: Sequence[str]) -> str | None:
    """The output of a command about one job; None where the server does not have the object."""
    try:
        return _kubectl(job.context, [*words, f"--namespace={job.namespace}"], _ASKING)
    except ToolError as error:
        if _NOT_FOUND in error.output:
            return None
        raise


def _kubectl(context: str | None, words: Sequence[str], what: str) -> str:
    _require_config()
    chosen = [] if context is None else [f"--context={context}"]
    return run_tool(["kubectl", "--request-timeout=30s", *chosen, *words], what=what, limit=_LIMIT)


def _require_config() -> None:
    """Raise InputError where kubectl would ask a server on this machine, as nobody named one."""
    named = [path for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    paths = named or [os.path.expanduser("~/.kube/config")]
    if not any(os.path.isfile(path) for path in paths) and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise InputError(f"there is no kubeconfig at {paths[0]}; name one in KUBECONFIG")
