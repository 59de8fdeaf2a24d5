"""Several workers as the pods of an Indexed Job: its manifest, run as containers with the pods' names and addresses.

See `support.pod_containers` for what is real here. The bits are those of local workers, whatever happens to a pod.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from samebits.core.record import FAILED, FINISHED, INTERRUPTED, read_record
from samebits.host.cluster.pod_images import images_of
from support.cluster_jobs import finished, job_of, resumed_once, trains, wait_for, workers_script
from support.command import COMMAND, SCRIPTS, Done, Project, call
from support.fake_kubectl import Kubectl, kubectl
from support.pod_containers import Pods, pod_network

__all__ = ["kubectl"]
pytestmark = pytest.mark.slow

OWNER = 1000
WORKERS = ("--workers", "2", "--threads", "1")


@pytest.fixture
def small(in_docker: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose folder every node has, with a user who is not root."""
    in_docker.runs.mkdir()
    os.chown(in_docker.runs, OWNER, OWNER)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(in_docker.folder / "config"))
    path = in_docker.folder / "config" / "samebits" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'[on.kubernetes]\nuser = "{OWNER}:{OWNER}"\nhost-paths = ["{in_docker.folder}"]\n')
    return in_docker


@pytest.fixture
def pods(kubectl: Kubectl, small: Project) -> Iterator[Pods]:
    assert small.runs.exists()
    with pod_network(kubectl, f"samebits-{os.getpid()}") as found:
        yield found


def submit(project: Project, *words: str) -> subprocess.Popen[str]:
    """`train --workers 2 --on kubernetes`, followed by this process."""
    command = [*COMMAND, "train", "train.py", "--data", "data", *WORKERS, "--on", "kubernetes", *words]
    return subprocess.Popen(command, cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def local(project: Project) -> Done:
    """The same recipe by two workers in one container on this machine."""
    words = ("train", "train.py", "--data", "data", *WORKERS, "--runtime", "docker", "--runs", "local")
    done = call(*words, folder=project.folder)
    assert done.status == 0, done.err
    return done


def same(one: Done, other: Done) -> None:
    assert [one.line(name) for name in ("recipe", "result")] == [other.line(name) for name in ("recipe", "result")]


def test_the_bits_of_local_workers(small: Project, pods: Pods) -> None:
    workers_script(small, 3, 0)
    with small.script.open("a") as script:
        script.write('print("environment", sorted(os.environ))\n')
    process = submit(small)
    job = job_of(small)
    with pods.run(job):
        done = finished(process)
        wait_for(lambda: {one.state()["ExitCode"] for one in pods.found if one.state()["Status"] == "exited"} == {0})
    assert done.status == 0, done.err + done.out
    same(done, local(small))
    record = job.attempts()[0].read()
    assert (record.outcome.state, record.environment.runtime) == (FINISHED, "kubernetes")
    assert record.recipe.world_size == 2
    # The image of each pod was read back, and nothing of the cluster reached the script.
    reference = job.read().pod_job.reference.partition("@")[2]
    assert len(images_of(job)) == 2
    assert {found["image_id"] for found in images_of(job).values()} <= {f"docker://{reference}"}
    assert not {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX", "SAMEBITS_ADDRESS"} & set(
        json.loads(done.line("environment").replace("'", '"'))
    )
    assert "done 1" not in done.out
    assert f"worker 1 of {job.path.name} on n1" in (job.path / "log-1.txt").read_text()
    assert all(os.stat(path).st_uid == OWNER for path in job.attempts()[0].path.rglob("*"))


@pytest.mark.parametrize("victim", ["worker", "chief", "node"])
def test_a_lost_pod_starts_the_whole_again(small: Project, pods: Pods, victim: str) -> None:
    workers_script(small, 8, 0.5)
    process = submit(small)
    job = job_of(small)
    with pods.run(job):
        first = trains(job)
        if victim == "node":
            lost = pods.lose_node(1)
            wait_for(lambda: read_record(first.record).finalized)
            # Not failed: TensorFlow has the script fail some seconds later.
            reason = "the connection to worker 1 of 2 was lost; the run needs all of its workers"
            assert first.read().outcome.message == reason
            pods.remove_node(lost)
        else:
            pods.of(0 if victim == "chief" else 1).kill()
        done = finished(process)
    assert done.status == 0, done.err + done.out
    same(done, local(small))
    assert resumed_once(job, first).checkpoint is not None


def test_workers_that_disagree(small: Project, pods: Pods) -> None:
    shutil.copy(SCRIPTS / "workers" / "fit.py", small.script)
    process = submit(small, "--", "perturb-1")
    job = job_of(small)
    with pods.run(job):
        done = finished(process)
    assert done.status == 2
    reason = "worker 1 disagrees with worker 0 at line 2 of the ledger (fit 0, epoch 1): sequential/dense/bias is the"
    assert reason in done.err
    assert [run.read().outcome.state for run in job.attempts()] == [FAILED]


def test_a_node_with_other_data(small: Project, pods: Pods, tmp_path: Path) -> None:
    """Nothing is trained, and the node is named."""
    workers_script(small, 3, 0)
    other = tmp_path / "other"
    shutil.copytree(small.data, other)
    (other / "numbers.csv").write_text("1\n")
    pods.changed[1] = {str(small.data): other, "/data": other}
    process = submit(small)
    job = job_of(small)
    with pods.run(job):
        done = finished(process)
    assert done.status == 2
    reason = "worker 1 of 2 cannot start: the node n1 makes another recipe than was submitted: data.tree; nothing was"
    assert reason in done.err
    assert job.attempts() == []


@pytest.mark.parametrize("how", ["killed", "node"])
def test_a_pod_that_is_gone_before_it_joins(small: Project, pods: Pods, how: str) -> None:
    """It is noticed within seconds. No run waits ten minutes for it."""
    workers_script(small, 3, 0)
    process = submit(small)
    job = job_of(small)
    with pods.run(job):
        wait_for(job.answer(1).exists)
        began = time.monotonic()
        if how == "node":
            lost = pods.lose_node(1)
            wait_for(lambda: job.attempts() and read_record(job.attempts()[0].record).finalized)
            reason = "worker 1 of 2 was lost before it joined: its pod is gone"
            assert job.attempts()[0].read().outcome.message == reason
            pods.remove_node(lost)
        else:
            pods.of(1).kill()
        done = finished(process)
    assert done.status == 0, done.err + done.out
    assert time.monotonic() - began < 120
    same(done, local(small))
    assert {run.read().outcome.state for run in job.attempts()[:-1]} <= {INTERRUPTED}
