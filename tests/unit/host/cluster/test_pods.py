"""Jobs on Kubernetes without one: the manifest, the settings, the states, and what a pod does with the job."""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.environment import RunImage
from samebits.core.errors import InputError, RecordError, ToolError
from samebits.core.jsonio import Fields, read_json
from samebits.core.liveness import Host, RunProcess
from samebits.core.record import FINISHED, INTERRUPTED, RUNNING, Outcome, Record, write_record
from samebits.core.run_config import REPRODUCIBILITY_LEVELS, make_config
from samebits.core.run_dir import RunDir
from samebits.host.cluster import following, kubernetes, kubernetes_jobs, pod_submission
from samebits.host.cluster.following import follow
from samebits.host.cluster.job_dir import JobDir, JobEnd
from samebits.host.cluster.manifest import Folder, object_name, volumes_for
from samebits.host.cluster.node import Node, run_job
from samebits.host.cluster.patience import PATIENCE_SECONDS, Patience
from samebits.host.cluster.pod_images import images_of
from samebits.host.cluster.pod_settings import PodSettings
from samebits.host.cluster.pod_submission import prepare_pods
from samebits.host.cluster.schedulers import state_of
from samebits.host.docker import Image
from samebits.host.launch import pod as pod_runtime
from samebits.host.launch.venv import ProcessRequest
from samebits.host.rerun.software import SoftwareOptions, find_software
from samebits.host.subprocesses import Streams
from support.fake_kubectl import Kubectl, kubectl, pod
from support.fake_runner import Played, played
from support.pods import CONFIG, IMAGE, NODE, OWNER, cluster, settings, submitted

__all__ = ["cluster", "kubectl", "played"]


@pytest.fixture
def job(cluster: Kubectl) -> JobDir:
    """A job that was submitted."""
    assert cluster.asked() == []
    return submitted(seed=3)


def manifest_of(job: JobDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(job.manifest.read_text())
    return found


def container_of(found: Mapping[str, Any]) -> dict[str, Any]:
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return dict(container)


# What the pod security standard "restricted" asks for (Kubernetes 1.31), clause by clause.


def violations(pod_spec: Mapping[str, Any]) -> list[str]:
    """The clauses of *restricted* that a pod breaks."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod_spec.get(name)]
    found += [name for volume in pod_spec["volumes"] for name in set(volume) - _VOLUMES]
    whole = pod_spec.get("securityContext", {})
    for container in (*pod_spec["containers"], *pod_spec.get("initContainers", ())):
        own = container.get("securityContext", {})
        merged = {**whole, **own}
        added = own.get("capabilities", {}).get("add") or []
        found += [name for name in added if name != "NET_BIND_SERVICE"]
        if "ALL" not in own.get("capabilities", {}).get("drop", ()):
            found.append("capabilities")
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            found.append("privileges")
        if merged.get("runAsNonRoot") is not True or merged.get("runAsUser") == 0:
            found.append("root")
        if merged.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
            found.append("seccomp")
        found += ["ports" for port in container.get("ports", ()) if port.get("hostPort")]
    return found


_VOLUMES = {
    *("name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"),
    "secret",
}


def test_restricted(cluster: Kubectl, tmp_path: Path, played: Played) -> None:
    claims = f'claims = {{ "{played.project.folder}" = "shared" }}\nuser = "{OWNER}"\n'
    settings(tmp_path, claims)
    found = manifest_of(submitted())
    pod_spec = found["spec"]["template"]["spec"]
    assert violations(pod_spec) == []
    assert (pod_spec["automountServiceAccountToken"], pod_spec["restartPolicy"]) == (False, "Never")
    assert container_of(found)["securityContext"]["readOnlyRootFilesystem"] is True
    assert cluster.asked()[-1].startswith("--request-timeout=30s create --namespace=team ")


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"allowPrivilegeEscalation": True}, "privileges"),
        ({"privileged": True}, "privileges"),
        ({"capabilities": {"drop": []}}, "capabilities"),
        ({"runAsNonRoot": False}, "root"),
        ({"runAsUser": 0}, "root"),
        ({"seccompProfile": {"type": "Unconfined"}}, "seccomp"),
    ],
)
def test_what_restricted_refuses_is_seen(job: JobDir, change: dict[str, Any], broken: str) -> None:
    found = manifest_of(job)
    container_of(found)["securityContext"].update(change)
    assert broken in violations(found["spec"]["template"]["spec"])
    assert "hostPath" in violations(found["spec"]["template"]["spec"]), "a folder of the node is not allowed there"


def test_the_manifest(job: JobDir, played: Played) -> None:
    found = manifest_of(job)
    container = container_of(found)
    runs, path = str(played.project.runs.absolute()), str(job.path.absolute())
    data = str(played.project.folder / "data")
    mounts = {mount["mountPath"]: mount["readOnly"] for mount in container["volumeMounts"] if mount["name"] != "tmp"}
    assert mounts == {
        runs: False,
        "/runs": False,
        f"{path}/code": True,
        f"{path}/launcher": True,
        data: True,
        "/data": True,
    }
    assert container["image"] == f"samebits@{IMAGE}"
    # What lies in the home folder is recorded relative to it.
    assert {"name": "HOME", "value": os.path.expanduser("~")} in container["env"]
    assert (pod_submission.PACKAGE / "__pycache__").is_dir()
    assert [path.name for path in job.launcher.rglob("*")] == ["samebits", "__init__.py"]
    rules = found["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob"]
    assert found["spec"]["podReplacementPolicy"] == "Failed"
    assert job.read().number == f"team/{found['metadata']['name']}"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", found["metadata"]["name"])


def test_an_old_server_gets_no_field_that_it_does_not_know(cluster: Kubectl) -> None:
    cluster.answers("version", {"serverVersion": {"gitVersion": "v1.20.2"}})
    spec = manifest_of(submitted(data=None))["spec"]
    assert {"podFailurePolicy", "podReplacementPolicy"} & spec.keys() == set()


def test_settings_of_a_project(cluster: Kubectl, played: Played) -> None:
    text = '[on.kubernetes]\nnamespace = "lab"\nqueue = "fast"\ncpu = 4\nmemory = "8Gi"\n'
    text += 'node-selector = { "topology.kubernetes.io/zone" = "a" }\nclaims = { "data" = "numbers" }\n'
    (played.project.folder / "samebits.toml").write_text(text)
    found = manifest_of(submitted())
    assert found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "fast"
    assert found["metadata"]["namespace"] == "lab"
    pod_spec = found["spec"]["template"]["spec"]
    assert pod_spec["nodeSelector"] == {"topology.kubernetes.io/zone": "a"}
    assert container_of(found)["resources"] == {
        "requests": {"cpu": "4", "memory": "8Gi"},
        "limits": {"memory": "8Gi"},
    }
    assert {"persistentVolumeClaim": {"claimName": "numbers"}} in [
        {name: value for name, value in volume.items() if name != "name"} for volume in pod_spec["volumes"]
    ]
    assert not any("config" in words for words in cluster.asked()), "the namespace was given"


@pytest.mark.usefixtures("cluster")
def test_script_and_data_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    monkeypatch.setattr("samebits.host.launch.train.require_folder", lambda folder, _: looked.append(folder))
    prepare_pods(make_config({"script": Path("train.py"), "data": Path("data")}))
    assert looked == [Path("data")]


def test_a_claim_holds_folders_below_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    folders = tuple(Folder(here=tmp_path / name, inside=Path("/") / name) for name in ("a", "a/b"))
    volumes, mounts = volumes_for(folders, PodSettings(claims={tmp_path / "a": "one"}, host_paths=(tmp_path,)))
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in volumes] == ["one"]
    assert [(mount["mountPath"], mount.get("subPath")) for mount in mounts] == [("/a", None), ("/a/b", "b")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('host-paths = ["/"]', "'on.kubernetes.host-paths' is not for a project to choose; put it into "),
        ('user = "0:0"', "'on.kubernetes.user' is not for a project to choose; put it into "),
        ('context = "other"', "'on.kubernetes.context' is not for a project to choose; put it into "),
        ('pull-secret = "x"', "'on.kubernetes.pull-secret' is not for a project to choose; put it into "),
        ('namespace = "--all"', "'on.kubernetes.namespace' is no name in Kubernetes: '--all'"),
        ('queue = "A b"', "'on.kubernetes.queue' is no name in Kubernetes: 'A b'"),
        ('memory = "lots"', "'on.kubernetes.memory' must be a quantity such as 4, 500m or 8Gi, not 'lots'"),
        ('claims = { "data" = "a/b" }', "'on.kubernetes.claims' names no claim: 'a/b'"),
        ('node-selector = { "x" = "y" }', "'on.kubernetes.node-selector' may ask for kubernetes.io/arch, "),
        ("privileged = true", "unknown key 'on.kubernetes.privileged'; there are "),
        ("cpu = [1]", "'on.kubernetes.cpu' must be a quantity such as 4, 500m or 8Gi, not '[1]'"),
    ],
)
@pytest.mark.usefixtures("cluster")
def test_bad_settings_of_a_project(played: Played, line: str, complaint: str) -> None:
    (played.project.folder / "samebits.toml").write_text(f"[on.kubernetes]\n{line}\n")
    done = played.call("train", "train.py", "--on", "kubernetes", "--dry-run")
    assert done.status == 2
    assert done.complaint.startswith(f"samebits.toml: {complaint}")


def test_dry_run(cluster: Kubectl, played: Played) -> None:
    done = played.call("train", "train.py", "--on", "kubernetes", "--dry-run")
    assert done.status == 0, done.err
    assert json.loads(done.out)["kind"] == "Job"
    assert cluster.asked()[-1].endswith("--dry-run=server")
    assert "nothing was submitted, and nothing is kept: the manifest names the folder runs/jobs/job-" in done.err
    assert not (played.project.runs / "jobs").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--sbatch=-p x"], "--sbatch is for --on slurm; settings of pods are in samebits.toml under [on.kubernetes]"),
        (["--runtime", "venv"], "a pod runs the image; drop --runtime venv"),
        (["--runtime", "apptainer"], "a pod runs the image; drop --runtime apptainer"),
        (["--gpus", "all"], "a pod asks for a number of GPUs; give it with --gpus"),
    ],
)
@pytest.mark.usefixtures("cluster")
def test_bad_options(played: Played, options: list[str], complaint: str) -> None:
    done = played.call("train", "train.py", "--on", "kubernetes", *options)
    assert (done.status, done.complaint) == (2, complaint)


def refused(played: Played) -> str:
    """The one line of a submission that fails, and leaves nothing."""
    done = played.call("train", "train.py", "--data", "data", "--on", "kubernetes")
    assert done.status == 2, done.out
    assert list(played.project.runs.glob("jobs/*")) == []
    return done.complaint


def test_no_kubectl(cluster: Kubectl, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.folder.exists()
    monkeypatch.setenv("PATH", "/nowhere")
    assert refused(played) == "asking for the version of Kubernetes needs the program 'kubectl', which is not installed"


def test_no_kubeconfig(cluster: Kubectl, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    assert refused(played) == "there is no kubeconfig at /nowhere/config; name one in KUBECONFIG"
    assert cluster.asked() == []


def test_no_server(cluster: Kubectl, played: Played) -> None:
    said = "The connection to the server 127.0.0.1:1 was refused - did you specify the right host?"
    cluster.refuses("version", said)
    assert refused(played) == f"asking for the version of Kubernetes failed with status 1: {said}"


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_what_is_missing_here_is_found_first(cluster: Kubectl, played: Played, more: tuple[str, ...]) -> None:
    """The cluster is not asked, and no image is built."""
    for words, complaint in (
        (("none.py",), "the script none.py does not exist"),
        (("train.py", "--data", "none"), "the data folder none does not exist"),
    ):
        done = played.call("train", *words, "--on", "kubernetes", *more)
        assert done.status == 2
        assert done.complaint.startswith(complaint)
    assert cluster.asked() == []


@pytest.mark.parametrize(
    "said",
    [
        'Error from server (NotFound): namespaces "team" not found',
        'Error from server (Invalid): Job.batch "x" is invalid: spec.template.spec.containers: Required value',
        "Error from server (Forbidden): pods violate PodSecurity restricted: hostPath volumes",
    ],
)
def test_a_manifest_that_the_server_refuses(cluster: Kubectl, played: Played, said: str) -> None:
    cluster.refuses("create", said)
    assert refused(played) == f"submitting the job failed with status 1: {said}"


def test_no_volume(cluster: Kubectl, played: Played, tmp_path: Path) -> None:
    settings(tmp_path, f'user = "{OWNER}"\nhost-paths = ["{played.project.runs}"]\n')
    assert refused(played) == (
        f"no volume holds {played.project.folder / 'data'}; name the claim or the nodes' folder that does under"
        " [on.kubernetes]: claims or host-paths"
    )
    assert not any("create" in words for words in cluster.asked())


@pytest.mark.usefixtures("cluster")
def test_a_folder_of_runs_that_the_pod_cannot_write_to(played: Played, tmp_path: Path) -> None:
    settings(tmp_path, f'user = "4321:4321"\nhost-paths = ["{played.project.folder}"]\n')
    played.project.runs.chmod(0o755)
    assert refused(played).startswith("the pod's user 4321:4321 may not write to ")


def test_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(InputError, match='pods do not run as root; put user = "UID:GID" under'):
        PodSettings().owner()
    with pytest.raises(InputError, match="pods do not run as root"):
        PodSettings(user="0:0").owner()


# The states.

WAITS = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}
CREATES = {"state": {"waiting": {"reason": "ContainerCreating"}}}
RUNS = {"phase": "Running", "state": {"running": {}}, "imageID": f"docker-pullable://samebits@{IMAGE}"}
UNCLAIMED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": '0/1 nodes are available: 1 persistentvolumeclaim "runs" not found.',
}


@pytest.mark.parametrize(
    ("pods", "events", "shown", "hopeless"),
    [
        ([], [], "queued (it waits for a pod)", False),
        ([pod(**WAITS)], [], "queued (ImagePullBackOff: Back-off pulling image on n1)", True),
        (
            [pod(**CREATES)],
            [
                {"reason": "FailedMount", "message": "hostPath type check failed: /x is not a directory"},
                {"reason": "MissingClusterDNS", "message": "falling back"},
            ],
            "queued (FailedMount: hostPath type check failed: /x is not a directory on n1)",
            True,
        ),
        ([pod(**CREATES)], [], "queued (its container is being made on n1)", False),
        (
            [pod(node="", conditions=[UNCLAIMED])],
            [],
            'queued (Unschedulable: 0/1 nodes are available: 1 persistentvolumeclaim "runs" not found.)',
            True,
        ),
        (
            [pod(node="", conditions=[{**UNCLAIMED, "message": "0/1 nodes are available: 1 Insufficient cpu."}])],
            [],
            "queued (Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.)",
            False,
        ),
        ([pod(**RUNS)], [], "running (n1)", False),
        (
            [pod(**RUNS, metadata={"deletionTimestamp": "2026-01-01T00:05:30Z"})],
            [],
            "queued (its pod on n1 was to end by 2026-01-01T00:05:30Z; another one follows its end)",
            False,
        ),
        (
            [pod(**RUNS, metadata={"name": "a", "deletionTimestamp": "2026-01-01T00:05:30Z"}), pod(**RUNS, node="n2")],
            [],
            "running (n2)",
            False,
        ),
        ([pod(phase="Failed", state={"terminated": {"exitCode": 143}})], [], "queued (it waits for a pod)", False),
        ([pod(phase="Failed", state={"terminated": {"exitCode": 66}})], [], "queued (its node does not see ", True),
    ],
)
def test_states_of_a_waiting_job(
    job: JobDir, cluster: Kubectl, pods: list[Any], events: list[Any], shown: str, hopeless: bool
) -> None:
    cluster.has_pods(*pods)
    cluster.answers("events", {"items": events})
    found = state_of(job, job.read())
    assert str(found).startswith(shown)
    assert (found.hopeless, found.over) == (hopeless, False)


def ended(kind: str, reason: str = "") -> dict[str, Any]:
    condition = {"type": kind, "status": "True", "reason": reason, "message": "no more"}
    return {"metadata": {"uid": "1-2"}, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("answer", "code", "shown"),
    [
        (
            ended("Failed", "BackoffLimitExceeded"),
            137,
            "lost (Kubernetes says BackoffLimitExceeded: no more, exit code",
        ),
        (ended("Failed", "PodFailurePolicy"), 66, "failed (its node does not see "),
        (ended("Complete"), 0, "lost (Kubernetes says no more, exit code 0, and it left no end)"),
        ({"metadata": {"uid": "1-2"}, "spec": {"suspend": True}}, None, "queued (suspended: it waits for its queue)"),
        ({"metadata": {"uid": "other"}}, None, "cancelled (deleted from outside)"),
    ],
)
def test_states_of_the_object(
    job: JobDir, cluster: Kubectl, answer: dict[str, Any], code: int | None, shown: str
) -> None:
    cluster.answers("job", answer)
    if code is not None:
        cluster.has_pods(pod(phase="Failed", state={"terminated": {"exitCode": code}}))
    assert str(state_of(job, job.read())).startswith(shown)


def test_deleted_from_outside(job: JobDir, cluster: Kubectl, played: Played) -> None:
    cluster.refuses("job", 'Error from server (NotFound): jobs.batch "x" not found')
    assert str(state_of(job, job.read())) == "cancelled (deleted from outside)"
    done = played.call("follow", job.path.name)
    assert done.status == 2
    assert "cancelled (deleted from outside)" in done.err
    job.cancelled.touch()
    assert str(state_of(job, job.read())) == "cancelled (by samebits cancel)"


def test_a_server_that_does_not_answer(job: JobDir, cluster: Kubectl) -> None:
    cluster.refuses("job", "Unable to connect to the server: net/http: TLS handshake timeout")
    with pytest.raises(ToolError, match="TLS handshake timeout"):
        state_of(job, job.read())


def test_following_outlasts_a_server_that_does_not_answer(
    job: JobDir, cluster: Kubectl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.has_pods(pod(**RUNS))
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 1:
            cluster.refuses("job", "Unable to connect to the server: EOF")
        if len(waited) == 4:
            job.write_end(JobEnd(status=0))
            cluster.answers("job", {"metadata": {"uid": "1-2"}, "spec": {}, "status": {}})

    monkeypatch.setattr(following, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    assert follow(job).kind == "finished"
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "does not answer" in line]
    assert said == (
        "samebits: the cluster does not answer, asking again for 5 minutes: asking for the job failed with status 1:"
        " Unable to connect to the server: EOF"
    )


def test_following_ends_where_the_server_never_answers(job: JobDir, cluster: Kubectl) -> None:
    """At once at the first question, and later after some minutes."""
    cluster.refuses("job", "Unable to connect to the server: EOF")
    with pytest.raises(ToolError, match="EOF"):
        follow(job)
    now = [0.0]
    patience = Patience(clock=lambda: now[0])
    for now[0] in (0.0, PATIENCE_SECONDS):
        with patience.around():
            raise ToolError("EOF")
    now[0] += 1.0
    with pytest.raises(ToolError, match="EOF"), patience.around():
        raise ToolError("EOF")
    with patience.around():
        pass
    with patience.around():
        raise ToolError("again, from the start")


def test_the_image_that_a_pod_ran(job: JobDir, cluster: Kubectl, played: Played) -> None:
    cluster.has_pods(pod(**RUNS))
    assert state_of(job, job.read()).kind == "running"
    # A cluster forgets pods; the job does not.
    cluster.has_pods()
    assert [found["image_id"] for found in images_of(job).values()] == [f"docker-pullable://samebits@{IMAGE}"]
    assert f"docker-pullable://samebits@{IMAGE}" in played.call("show", job.path.name).out
    (row,) = json.loads(played.call("list", "--jobs", "--json").out)
    assert (row["slurm"], row["kubernetes"]) == (None, job.read().number)


@pytest.mark.parametrize("named", [f"docker.io/library/samebits@{IMAGE}", f"docker://{CONFIG}"])
def test_names_of_the_same_image(job: JobDir, cluster: Kubectl, named: str) -> None:
    cluster.has_pods(pod(**{**RUNS, "imageID": named}))
    assert state_of(job, job.read()).kind == "running"


def test_another_image(job: JobDir, cluster: Kubectl) -> None:
    job.write_end(JobEnd(status=0))
    cluster.has_pods(pod(**{**RUNS, "imageID": f"docker://sha256:{'b' * 64}"}))
    found = state_of(job, job.read())
    assert (found.kind, found.status) == ("failed", 2)
    assert found.detail == f"the pod p ran docker://sha256:{'b' * 64}, not samebits@{IMAGE}; do not rely on its run"
    cluster.has_pods()
    assert state_of(job, job.read()) == found


def test_what_cannot_start_is_given_up(
    job: JobDir, cluster: Kubectl, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "HOPELESS_SECONDS", 0.2)
    monkeypatch.setattr(kubernetes_jobs, "POLL_SECONDS", 0.05)
    cluster.has_pods(pod(**WAITS))
    done = played.call("follow", job.path.name)
    assert done.status == 2
    assert "it cannot start, and was given up: ImagePullBackOff: Back-off pulling image on n1" in done.err
    assert any(" delete job " in f" {words} " for words in cluster.asked())
    # A pod that starts all the same trains nothing.
    assert (run_job(job, NODE), job.attempts()) == (2, [])


def test_cancelled(job: JobDir, cluster: Kubectl, played: Played) -> None:
    cluster.has_pods(pod(**RUNS))
    assert played.call("cancel", job.path.name).status == 0
    assert cluster.asked()[-1].endswith("--ignore-not-found --wait=false")
    assert job.cancelled.exists()
    assert images_of(job), "it is the last time that the pod can be asked"


# What a pod does.


def test_a_pod_trains_it(job: JobDir, played: Played, cluster: Kubectl) -> None:
    assert run_job(job, NODE) == 0
    (run,) = job.attempts()
    record = run.read()
    assert record.recipe.digest == job.read().recipe.digest
    assert (record.outcome.state, record.environment.runtime) == (FINISHED, "kubernetes")
    assert record.environment.image == RunImage(reference=f"samebits@{IMAGE}", id=IMAGE)
    # A pod that an old server starts after the end trains nothing.
    played.player.trained.clear()
    assert (run_job(job, NODE), played.player.trained) == (0, [])
    assert str(state_of(job, job.read())) == "finished"
    cluster.refuses("job", "Error from server (NotFound): gone")
    assert str(state_of(job, job.read())) == "finished"


def test_an_evicted_pod_is_resumed(job: JobDir, played: Played) -> None:
    played.player.dies = (0, 3)
    assert run_job(job, NODE) == 2
    # The pod was killed before it could write an end.
    job.end.unlink()
    played.player.dies = None
    played.player.trained.clear()
    assert run_job(job, NODE) == 0
    assert played.player.trained == [(0, 2), (0, 3)]
    assert [run.read().outcome.state for run in job.attempts()] == [INTERRUPTED, FINISHED]


def begun(run: RunDir, host: Host | None) -> Record:
    """The run as it was before its end; returns the record of its end."""
    record = run.read()
    run.record.unlink()
    state = Outcome(state=RUNNING)
    write_record(run.record, replace(record, outcome=state, result=None, ledger=None, files=None, host=host))
    return record


def test_a_new_pod_waits_for_the_one_before(job: JobDir, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster may start it as soon as it stops the other."""
    monkeypatch.setattr("samebits.host.cluster.kubernetes_jobs.PATIENCE_SECONDS", 60.0)
    played.player.dies = (0, 3)
    assert run_job(job, NODE) == 2
    job.end.unlink()
    (first,) = job.attempts()
    ends = begun(first, Host.this())

    def end(_: float) -> None:
        first.record.unlink()
        write_record(first.record, ends)

    monkeypatch.setattr("time.sleep", end)
    played.player.dies = None
    assert run_job(job, NODE) == 0
    origin = job.attempts()[1].read().origin
    assert origin.resumes is not None
    assert origin.resumes.id == first.path.name


def test_a_pod_of_a_lost_node_is_resumed(job: JobDir, played: Played, cluster: Kubectl) -> None:
    """Nothing of it can be seen, and its record says that it runs. The next pod waits for its end, but not for ever."""
    played.player.dies = (0, 3)
    assert run_job(job, NODE) == 2
    job.end.unlink()
    process = RunProcess.this()
    assert process is not None
    (first,) = job.attempts()
    begun(first, Host(machine=None, launcher=replace(process, boot="of-n1")))
    cluster.has_pods(pod(**RUNS, metadata={"deletionTimestamp": "2026-01-01T00:05:30Z"}))
    state = state_of(job, job.read())
    assert (state.kind, state.over) == ("preempted", False)
    assert state.detail.startswith("its pod on n1 was to end by ")
    played.player.dies = None
    played.player.trained.clear()
    assert run_job(job, replace(NODE, name="n2")) == 0
    assert played.player.trained == [(0, 2), (0, 3)]
    assert [run.read().outcome.state for run in job.attempts()] == [INTERRUPTED, FINISHED]


def test_only_the_recorded_image_resumes(job: JobDir) -> None:
    assert run_job(job, NODE) == 0
    (run,) = job.attempts()
    record = run.read()
    runtime = kubernetes_jobs.runtime(job.read())
    assert find_software(run, record, SoftwareOptions(inside=runtime))[0][0].blocks == ()
    other = replace(runtime.setup, image=replace(runtime.setup.image, config=None))
    (row,), _ = find_software(run, record, SoftwareOptions(inside=replace(runtime, setup=other)))
    assert (row.reason, set(row.blocks)) == (
        "this container is not of the recorded image",
        set(REPRODUCIBILITY_LEVELS),
    )


@pytest.mark.usefixtures("cluster")
def test_a_pod_with_another_image(job: JobDir, tmp_path: Path) -> None:
    path = tmp_path / "recipe" / "image.json"
    path.write_text(
        path.read_text().replace(Fields(read_json(path)).get("source", str), str(Digest.of_bytes(b"other")))
    )
    with pytest.raises(InputError, match=r"the node n1 makes another recipe than was submitted: image\.source;"):
        run_job(job, NODE)
    path.unlink()
    job.end.unlink()
    with pytest.raises(InputError, match="this is not an image built by `samebits build`"):
        run_job(job, NODE)


def test_a_pod_that_sees_other_data(job: JobDir, played: Played) -> None:
    (played.project.folder / "data" / "numbers.csv").write_text("1\n")
    with pytest.raises(InputError, match=r"another recipe than was submitted: data\.tree; nothing was trained"):
        run_job(job, NODE)


def test_variables_of_the_launcher_stay_with_it(job: JobDir, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMEBITS_NODE", "n7")
    monkeypatch.setenv("SAMEBITS_CACHE", os.environ["SAMEBITS_CACHE"])
    monkeypatch.setenv("OF_THE_IMAGE", "1")
    assert Node.here().name == "n7"
    seen: list[Mapping[str, str]] = []

    def run_process(request: ProcessRequest, _: Streams) -> int:
        seen.append(request.environment)
        return played.player(request.command[4:], request.environment)

    monkeypatch.setattr(pod_runtime, "run_process", run_process)
    assert run_job(job, NODE) == 0
    (found,) = seen
    assert {name for name in found if name.startswith("SAMEBITS_")} == {"SAMEBITS_DATA"}
    assert (found["OF_THE_IMAGE"], found["SAMEBITS_DATA"], "HOME" in found) == ("1", "/data", False)


@pytest.mark.parametrize("number", ["team", "--all/x", "team/-x", "team/x y", "/x"])
def test_an_id_that_is_an_option(job: JobDir, number: str) -> None:
    job.write(replace(job.read(), number=number))
    with pytest.raises(RecordError, match="is no job as NAMESPACE/NAME"):
        job.read()


@pytest.mark.parametrize(
    "name", ["job-20261127T134213Z-train-ef0a7377", "job-1-" + "Ä_." * 40 + "-ef0a7377-2", "job-x"]
)
def test_names_of_objects(name: str) -> None:
    found = object_name(name)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,56}[a-z0-9])?", found), found
    assert found.endswith(name[-2:].lower())


def test_the_door(kubectl: Kubectl) -> None:
    name = kubernetes.JobName(context="c", namespace="n", name="x")
    assert kubernetes.find_job(name) == kubernetes.JobObject(uid="1-2")
    assert kubectl.asked() == ["--request-timeout=30s --context=c get job x --output=json --namespace=n"]
    kubectl.answers("version", {})
    with pytest.raises(ToolError, match="gives no version"):
        kubernetes.server_version(None)


@pytest.mark.parametrize(
    ("reference", "digests", "named"),
    [
        (f"registry/lab/x@{IMAGE}", (), f"registry/lab/x@{IMAGE}"),
        ("samebits:cpu", (f"other@{IMAGE}", f"samebits@{IMAGE}"), f"samebits@{IMAGE}"),
        ("registry:5000/x:1", (f"other@{IMAGE}", f"registry:5000/x@{IMAGE}"), f"registry:5000/x@{IMAGE}"),
        (IMAGE, (f"other@{IMAGE}",), f"other@{IMAGE}"),
        ("samebits:cpu", (), None),
    ],
)
def test_the_name_by_which_nodes_find_the_image(
    monkeypatch: pytest.MonkeyPatch, reference: str, digests: tuple[str, ...], named: str | None
) -> None:
    class Engine:
        def find_image(self, _: str) -> Image:
            return Image(reference=reference, id=IMAGE, labels={}, digests=digests)

    monkeypatch.setattr("samebits.host.docker.Engine", Engine)
    image = RunImage(reference=reference, id=IMAGE)
    if named is not None:
        assert pod_submission.pinned(image) == named
        return
    with pytest.raises(InputError, match="no registry names the image samebits:cpu by digest, so no node can find it;"):
        pod_submission.pinned(image)
