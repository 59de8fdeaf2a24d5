"""Runs on a real Kubernetes 1.20 of one node on this machine: the same bits, after whatever happens to a pod.

`make test-kubernetes` builds it first; without that all are left out. It has no pod security admission, so
`tests/unit/host/cluster/test_pods.py` checks the manifest against *restricted*.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from samebits.core.record import FAILED, FINISHED, INTERRUPTED, read_record
from samebits.host.cluster.job_dir import JobDir
from samebits.host.cluster.pod_images import images_of
from support.cluster_jobs import SLOW_SCRIPT, finished, job_of, resumed_once, started, trained_here, trains, wait_for
from support.command import ROOT, Done, Project, call

pytestmark = pytest.mark.slow

OWNER = 1000
_BUILT = "SAMEBITS_KUBERNETES", "~/.cache/samebits-kubernetes"


@dataclass(frozen=True)
class Cluster:
    """The cluster, by its own `kubectl`."""

    state: Path

    def __call__(self, *words: str) -> str:
        return subprocess.run(["kubectl", *words], check=True, capture_output=True, text=True).stdout.strip()

    def apply(self, *objects: object) -> None:
        """Create some objects."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        subprocess.run(["kubectl", "apply", "--filename=-"], input=text, check=True, capture_output=True, text=True)

    def pod(self, job: JobDir) -> str:
        """The job's one pod that is not being deleted."""
        name = str(job.read().number).partition("/")[2]
        return self("get", "pods", f"--selector=job-name={name}", "--output=jsonpath={.items[0].metadata.name}")


@pytest.fixture(scope="session")
def kubernetes(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own, whose node runs pods on the engine."""
    built = Path(os.environ.get(_BUILT[0], _BUILT[1])).expanduser() / "bin"
    if not (built / "kubelet").exists() and not os.environ.get("SAMEBITS_REQUIRE_KUBERNETES"):
        pytest.skip("Kubernetes was not built: make test-kubernetes")
    state, tool = tmp_path_factory.mktemp("kubernetes"), str(ROOT / "tools" / "kubernetes.sh")
    environment = {**os.environ, "DOCKER_HOST": engine}
    done = subprocess.run([tool, "up", state], capture_output=True, text=True, check=False, env=environment)
    try:
        assert done.returncode == 0, done.stderr
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(state / "kubeconfig"))
            patch.setenv("PATH", f"{built}{os.pathsep}{os.environ['PATH']}")
            yield Cluster(state)
    finally:
        subprocess.run([tool, "down", state], check=True, env=environment)


@pytest.fixture
def small(kubernetes: Cluster, in_docker: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose folder every node has, with a user who is not root."""
    in_docker.write(SLOW_SCRIPT)
    in_docker.runs.mkdir()
    os.chown(in_docker.runs, OWNER, OWNER)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(in_docker.folder / "config"))
    settings(in_docker, f'host-paths = ["{in_docker.folder}"]')
    assert kubernetes("get", "nodes", "--output=name") == "node/n1"
    return in_docker


def settings(project: Project, *lines: str) -> None:
    """Write the user's own file."""
    path = project.folder / "config" / "samebits" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("[on.kubernetes]", f'user = "{OWNER}:{OWNER}"', *lines, "")))


def submit(project: Project, *options: str, epochs: int = 8, pause: float = 1.0) -> subprocess.Popen[str]:
    """`train --on kubernetes`, followed by this process."""
    words = ("train", "train.py", "--data", "data", "--on", "kubernetes", "--env", f"PAUSE={pause}", *options)
    return started(project, words, epochs)


def local(project: Project, epochs: int = 8, pause: float = 1.0) -> Done:
    """The same recipe in a container on this machine."""
    return trained_here(project, ("--data", "data"), epochs, pause)


def same(one: Done, other: Done) -> None:
    assert [one.line(name) for name in ("recipe", "result")] == [other.line(name) for name in ("recipe", "result")]


def claim(name: str, folder: Path) -> list[dict[str, object]]:
    """A volume of a folder of the node, and the claim that is bound to it."""
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    bound = {"namespace": "default", "name": name}
    volume = {**common, "capacity": {"storage": "1Gi"}, "hostPath": {"path": str(folder)}, "claimRef": bound}
    wanted = {**common, "resources": {"requests": {"storage": "1Gi"}}, "volumeName": name}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": bound, "spec": wanted},
    ]


def test_the_same_bits_from_a_claim(small: Project, kubernetes: Cluster) -> None:
    kubernetes.apply(*claim("shared", small.folder))
    settings(small)
    (small.folder / "samebits.toml").write_text('[on.kubernetes]\nclaims = { "." = "shared" }\nqueue = "fast"\n')
    done = finished(submit(small, epochs=2, pause=0))
    assert done.status == 0, done.err
    same(done, local(small, 2, 0))
    job = job_of(small)
    record = job.attempts()[0].read()
    assert (record.outcome.state, record.environment.runtime) == (FINISHED, "kubernetes")
    (found,) = images_of(job).values()
    pods = job.read().pods
    assert pods is not None
    assert found["image_id"].endswith(pods.reference.partition("@")[2])
    assert found["image_id"] in call("show", job.path.name, folder=small.folder).out
    name = str(job.read().number).partition("/")[2]
    label = "--output=jsonpath={.metadata.labels.kueue\\.x-k8s\\.io/queue-name}"
    assert kubernetes("get", "job", name, label) == "fast"
    assert "KUBERNETES" not in done.line("environment")
    verified = call("verify", "last", folder=small.folder)
    assert (verified.status, verified.out.splitlines()[-1].split()[0]) == (0, "identical:"), verified.out + verified.err


def test_a_deleted_pod_is_resumed(small: Project, kubernetes: Cluster) -> None:
    process = submit(small)
    job = job_of(small)
    first = trains(job)
    kubernetes("delete", "pod", kubernetes.pod(job), "--wait=false")
    done = finished(process)
    assert done.status == 0, done.err
    assert "preempted" in done.err
    same(done, local(small))
    resumed_once(job, first)
    assert job.attempts()[1].read().origin.attempts == (first.path.name,)
    assert len(images_of(job)) == 2


def test_a_killed_pod_is_resumed(small: Project, kubernetes: Cluster) -> None:
    process = submit(small)
    job = job_of(small)
    trains(job)
    labels = (f"io.kubernetes.pod.name={kubernetes.pod(job)}", "io.kubernetes.docker.type=container")
    words = ["docker", "ps", "--quiet", *(f"--filter=label={label}" for label in labels)]
    container = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["docker", "kill", "--signal=KILL", container], check=True, capture_output=True)
    done = finished(process)
    assert done.status == 0, done.err
    same(done, local(small))
    assert [run.read().outcome.state for run in job.attempts()] == [INTERRUPTED, FINISHED]


@pytest.mark.parametrize("command", ["samebits", "kubectl"])
def test_cancelled(small: Project, kubernetes: Cluster, command: str) -> None:
    process = submit(small, epochs=400)
    job = job_of(small)
    run = trains(job)
    if command == "samebits":
        assert call("cancel", job.path.name, folder=small.folder).status == 0
    else:
        kubernetes("delete", "job", str(job.read().number).partition("/")[2], "--wait=false")
    done = finished(process)
    by = "by samebits cancel" if command == "samebits" else "deleted from outside"
    assert (done.status, done.err.splitlines()[-1]) == (2, f"samebits: {job.path.name}: cancelled ({by})")
    wait_for(lambda: read_record(run.record).finalized)
    assert (run.read().outcome.state, len(job.attempts())) == (INTERRUPTED, 1)
    again = call("cancel", job.path.name, folder=small.folder)
    assert again.complaint == f"the job {job.path.name} is over: cancelled ({by}); there is nothing to cancel"


def test_a_script_that_fails(small: Project, kubernetes: Cluster) -> None:
    small.write("raise SystemExit(3)\n")
    done = finished(submit(small))
    assert done.status == 1, done.err
    job = job_of(small)
    # This server does not know which ends are final. Its next pod trains nothing.
    wait_for(lambda: len(kubernetes("get", "pods", "--output=name").split()) > 1)
    assert [run.read().outcome.state for run in job.attempts()] == [FAILED]


def held(project: Project, kubernetes: Cluster, change: Callable[[JobDir], object]) -> tuple[Done, JobDir]:
    """A job that waits until something was changed."""
    kubernetes("cordon", "n1")
    process = submit(project, epochs=2, pause=0)
    job = job_of(project)
    wait_for(lambda: "Unschedulable" in call("show", job.path.name, folder=project.folder).out)
    change(job)
    kubernetes("uncordon", "n1")
    return finished(process), job


def test_data_that_the_node_sees_otherwise(small: Project, kubernetes: Cluster) -> None:
    done, job = held(small, kubernetes, lambda _: (small.data / "numbers.csv").write_text("1\n"))
    assert done.status == 2
    assert "makes another recipe than was submitted: data.tree; nothing was trained" in done.err.splitlines()[-1]
    assert job.attempts() == []


def test_a_folder_that_the_node_does_not_see(small: Project, kubernetes: Cluster) -> None:
    hidden = small.folder / "hidden.json"

    def hide(job: JobDir) -> None:
        os.rename(job.file, hidden)

    process = None
    kubernetes("cordon", "n1")
    try:
        process = submit(small, epochs=2, pause=0)
        job = job_of(small)
        hide(job)
    finally:
        kubernetes("uncordon", "n1")
    done = finished(process)
    assert done.status == 2
    where = f"its node does not see {job.path}; put the runs on a file system that all nodes share"
    assert f"it cannot start, and was given up: {where}" in done.err.splitlines()[-1]


def test_a_claim_that_is_missing(small: Project, kubernetes: Cluster) -> None:
    settings(small, f'claims = {{ "{small.folder}" = "nowhere" }}')
    done = finished(submit(small))
    assert done.status == 2
    assert "was given up: Unschedulable: " in done.err
    assert 'persistentvolumeclaim "nowhere" not found' in done.err.splitlines()[-1]
    assert str(job_of(small).read().number).partition("/")[2] not in kubernetes("get", "jobs", "--output=name")


def test_an_image_that_the_node_does_not_have(small: Project, kubernetes: Cluster) -> None:
    subprocess.run(["docker", "tag", "samebits:cpu", "samebits-lost:1"], check=True)
    kubernetes("cordon", "n1")
    try:
        process = submit(small, "--image", "samebits-lost:1")
        job = job_of(small)
    finally:
        subprocess.run(["docker", "rmi", "samebits-lost:1"], check=True, capture_output=True)
        kubernetes("uncordon", "n1")
    done = finished(process)
    assert done.status == 2
    assert re.search("it cannot start, and was given up: (ErrImagePull|ImagePullBackOff): .* on n1", done.err)
    assert job.attempts() == []


def test_namespaces(small: Project) -> None:
    (small.folder / "samebits.toml").write_text('[on.kubernetes]\nnamespace = "nowhere"\n')
    done = finished(submit(small))
    assert done.status == 2
    assert "Error from server (NotFound): " in done.complaint
    assert done.complaint.endswith('namespaces "nowhere" not found')
    assert list(small.runs.glob("jobs/*")) == []


def test_the_server_checks_a_dry_run(small: Project, kubernetes: Cluster) -> None:
    done = finished(submit(small, "--dry-run"))
    assert done.status == 0, done.err
    assert json.loads(done.out)["kind"] == "Job"
    assert json.loads(done.out)["metadata"]["name"] not in kubernetes("get", "jobs", "--output=name")


def test_a_server_without_indexed_jobs(small: Project) -> None:
    done = finished(submit(small, "--workers", "2"))
    assert done.status == 2
    needed = "several workers need Kubernetes 1.26 or newer, for an Indexed Job, and this server is v1.20.2;"
    assert done.complaint.startswith(needed)
    assert list(small.runs.glob("jobs/*")) == []


def test_ctrl_c_lets_go(small: Project, kubernetes: Cluster) -> None:
    process = submit(small, epochs=400)
    job = job_of(small)
    trains(job)
    process.send_signal(signal.SIGINT)
    done = finished(process)
    assert done.status == 130
    assert f"`samebits follow {job.path.name}` follows it again" in done.err.splitlines()[-1]
    assert kubernetes.pod(job)
    assert call("cancel", job.path.name, folder=small.folder).status == 0
