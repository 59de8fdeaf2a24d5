"""The manifest of a job: a `batch/v1` Job, whose pods keep to the pod security standard *restricted*.

One worker is one pod. Several are the pods of an Indexed Job.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.core.errors import EXIT_TERMINATED, InputError
from samebits.core.jsonio import Fields, read_json
from samebits.host.cluster.batch_script import NOT_SHARED
from samebits.host.cluster.job_dir import MAX_ATTEMPTS
from samebits.host.cluster.pod_job import ADDRESS_VARIABLE, INDEX_VARIABLE, NODE_VARIABLE
from samebits.host.cluster.pod_settings import PodSettings

CONTAINER = "samebits"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
TERMINATION_SECONDS = 120
"""How long a pod has between SIGTERM and SIGKILL: for a checkpoint, and the end of the record."""

INDEXED_SINCE = 26
"""The minor version since which a server has Indexed Jobs, and can be told which ends are final."""

_RETRIES = 6
_KILLED = 137
NOT_FINAL = (_KILLED, EXIT_TERMINATED)
"""Exit codes of a pod that another one follows."""

_PYTHON = "/opt/samebits/venv/bin/python"
# -I ignores the image's PYTHONPATH: the launcher is the submitter's, and starts the image's runner.
_START = "import runpy, sys; sys.path.insert(0, sys.argv[1]); del sys.argv[1]; "
_START += "runpy.run_module('samebits.host.cli.node', run_name='__main__')"
_SCRIPT = (
    f'test -r "$1/job.json" || exit {NOT_SHARED}; '
    # Two nodes cannot append to one file on every file system. The chief's is the job's.
    f'i=${{{INDEX_VARIABLE}:-0}}; l="$1/log.txt"; test "$i" = 0 || l="$1/log-$i.txt"; '
    'echo "the output is in $l"; '
    f'exec {_PYTHON} -I -B -c "$2" "$1/launcher" "$1" >>"$l" 2>&1'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """A folder that the pod needs: where it is here, where the pod has it, and whether it may write there."""

    here: Path
    inside: Path
    writable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PodPlan:
    """Everything that the manifest is made of; `job` is the job's folder, as here and in the pod."""

    name: str
    namespace: str
    image: str
    job: Path
    folders: tuple[Folder, ...]
    recipe: str
    server: str
    home: str
    gpus: str | None = None
    workers: int = 1
    settings: PodSettings = field(default_factory=PodSettings)


def manifest(plan: PodPlan) -> dict[str, Any]:
    """The Job. Raises InputError where a folder lies in no volume."""
    labels = {"app.kubernetes.io/name": "samebits", "app.kubernetes.io/managed-by": "samebits"}
    queue = {} if plan.settings.queue is None else {QUEUE_LABEL: plan.settings.queue}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": plan.name,
            "namespace": plan.namespace,
            "labels": labels | queue,
            "annotations": {"samebits/job": plan.job.name, "samebits/recipe": plan.recipe},
        },
        "spec": {
            "completions": plan.workers,
            "parallelism": plan.workers,
            **({} if plan.workers == 1 else {"completionMode": "Indexed"}),
            # Of several workers, an attempt may cost each one's pod.
            "backoffLimit": _RETRIES if plan.workers == 1 else MAX_ATTEMPTS * plan.workers,
            **_policies(plan.server),
            "template": {"metadata": {"labels": labels}, "spec": _pod(plan)},
        },
    }


def _policies(server: str) -> dict[str, Any]:
    """Which ends of a pod another pod follows, for servers that can be told.

    An older one starts pods until `backoffLimit`; those find the end that the first one wrote.
    """
    found: dict[str, Any] = {}
    if is_at_least(server, INDEXED_SINCE):
        stopped = {"containerName": CONTAINER, "operator": "NotIn", "values": list(NOT_FINAL)}
        found["podFailurePolicy"] = {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                # The schema of 1.26 demands an empty list, too.
                {"action": "FailJob", "onExitCodes": stopped, "onPodConditions": []},
            ]
        }
    if is_at_least(server, 29):
        # The next attempt begins once the one before has ended.
        found["podReplacementPolicy"] = "Failed"
    return found


def is_at_least(server: str, minor: int) -> bool:
    """Whether the version of a server is 1.`minor` or newer."""
    found = re.match(r"v?1\.([0-9]+)", server)
    return found is not None and int(found[1]) >= minor


def _pod(plan: PodPlan) -> dict[str, Any]:
    settings = plan.settings
    user, group = settings.owner()
    volumes, mounts = volumes_for(plan.folders, settings)
    secret = {} if settings.pull_secret is None else {"imagePullSecrets": [{"name": settings.pull_secret}]}
    selector = {} if not settings.node_labels else {"nodeSelector": dict(settings.node_labels)}
    return {
        # The Job starts other pods. A container that is started again in the same pod would be no attempt of its own.
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **selector,
        **secret,
        "containers": [_container(plan, mounts)],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
    }


def _container(plan: PodPlan, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    resources = _resources(plan)
    return {
        "name": CONTAINER,
        "image": plan.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", _SCRIPT, "samebits", str(plan.job), _START],
        "env": [
            _own_field(NODE_VARIABLE, "spec.nodeName"),
            *([] if plan.workers == 1 else [_own_field(ADDRESS_VARIABLE, "status.podIP")]),
            {"name": "SAMEBITS_CACHE", "value": str(plan.job / "cache")},
            # Paths are recorded relative to it, as here. The script gets the image's.
            {"name": "HOME", "value": plan.home},
            # Nothing of a home folder is there, and the image's own may not be readable.
            {"name": "XDG_CONFIG_HOME", "value": str(plan.job / "launcher")},
        ],
        "securityContext": {
            "runAsNonRoot": True,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({} if not resources else {"resources": resources}),
        "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  inside the container
    }


def _own_field(name: str, path: str) -> dict[str, Any]:
    """A variable with what the cluster knows of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _resources(plan: PodPlan) -> dict[str, dict[str, str]]:
    """What the pod is given: memory is a limit as well, as a node has no more to lend without killing."""
    settings = plan.settings
    requests = {"cpu": settings.cpu, "memory": settings.memory}
    limits = {"memory": settings.memory, "nvidia.com/gpu": plan.gpus}
    found = {"requests": requests, "limits": limits}
    given = {what: {name: value for name, value in values.items() if value} for what, values in found.items()}
    return {what: values for what, values in given.items() if values}


def volumes_for(
    folders: tuple[Folder, ...], settings: PodSettings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The volumes that hold some folders, and where they are mounted; raises InputError for a folder in none."""
    names: dict[str, str] = {}
    volumes, mounts = [], []
    # What is mounted over another folder comes after it.
    for folder in sorted(folders, key=lambda folder: str(folder.inside)):
        source, inner = _source_of(Path(os.path.realpath(folder.here)), settings)
        known = repr(source)
        if known not in names:
            names[known] = f"volume-{len(names)}"
            volumes.append({"name": names[known], **source})
        mount = {"name": names[known], "mountPath": str(folder.inside), "readOnly": not folder.writable}
        mounts.append(mount | ({} if inner == "." else {"subPath": inner}))
    return volumes, mounts


def _source_of(folder: Path, settings: PodSettings) -> tuple[dict[str, Any], str]:
    """The volume of a folder, and where in it the folder is: the innermost that the settings name."""
    named = [path for path in (*settings.claims, *settings.host_paths) if folder.is_relative_to(path)]
    if not named:
        raise InputError(
            f"no volume holds {folder}; name the claim or the nodes' folder that does under [on.kubernetes]:"
            " claims or host-paths"
        )
    innermost = max(named, key=lambda path: len(path.parts))
    if innermost in settings.claims:
        claim = {"persistentVolumeClaim": {"claimName": settings.claims[innermost]}}
        return claim, str(folder.relative_to(innermost))
    return {"hostPath": {"path": str(folder), "type": "Directory"}}, "."


def named_in(path: Path) -> tuple[str, str]:
    """Namespace and name in a manifest that was written."""
    metadata = Fields(read_json(path)).inner("metadata")
    return metadata.get("namespace", str), metadata.get("name", str)


def object_name(job: str) -> str:
    """The name of a job's object: that of its folder, as Kubernetes takes it."""
    text = re.sub(r"[^a-z0-9]+", "-", job.removeprefix("job-").lower()).strip("-")
    # Date, the beginning of the script's name, and the recipe, with the number of an equal one.
    short = text if len(text) <= _MOST else f"{text[: _MOST - 17].rstrip('-')}-{text[-16:].lstrip('-')}"
    return f"samebits-{short}"


_MOST = 48
