"""Several workers on the nodes of a real Slurm: the bits of local ones, in containers and without.

All are `slow`, as those of `test_slurm.py`.
"""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from samebits.core.record import FINISHED, INTERRUPTED
from samebits.host.cluster.job_dir import JobDir
from support.cluster_jobs import finished, job_of, resumed_once, trains, wait_for, workers_script
from support.command import COMMAND, Project, call, newest
from support.slurm_cluster import Cluster, recorded

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("locked")]


def submit_workers(project: Project, *options: str, workers: int = 2) -> subprocess.Popen[str]:
    words = [*COMMAND, "train", "train.py", "--runtime", project.runtime, "--workers", str(workers), "--threads", "1"]
    return subprocess.Popen(
        [*words, "--on", "slurm", *options],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def local_workers(project: Project, *options: str, runtime: str = "venv") -> str:
    words = ("train", "train.py", "--runtime", runtime, "--workers", "2", "--threads", "1", "--runs", "local")
    done = call(*words, *options, folder=project.folder)
    assert done.status == 0, done.err
    return done.line("result")


def test_workers_on_any_nodes_give_the_bits_of_local_workers(small: Project, slurm: Cluster) -> None:
    workers_script(small, 3, 0)
    wanted = local_workers(small)
    for nodes in ("n1,n2", "n2,n3"):
        done = finished(submit_workers(small, f"--sbatch=--nodelist={nodes}"))
        assert done.status == 0, done.err + done.out
        assert done.line("result") == wanted
        assert "done 1" not in done.out
    assert "n2" not in json.dumps(newest(small).read().recipe.to_dict())
    assert slurm("squeue", "-h") == ""


@pytest.mark.parametrize("victim", ["worker", "node"])
def test_a_lost_worker_is_requeued_and_resumed(small: Project, slurm: Cluster, victim: str) -> None:
    workers_script(small, 8, 0.5)
    wanted = local_workers(small)
    process = submit_workers(small, "--sbatch=--nodelist=n1,n2")
    job = job_of(small)
    trains(job)
    # Of the second node: the process that starts the worker's task, and all below it.
    tasks = [pid for pid in processes() if f"--worker\0{job.path.absolute()}".encode() in command_of(pid)]
    assert tasks
    if victim == "node":
        for pid in (int((slurm.state / "slurmd.n2.pid").read_text()), *tasks):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        slurm("scontrol", "update", "nodename=n2", "state=down", "reason=died")
        # The job wants this node.
        subprocess.run(["slurmd", "-N", "n2"], check=True)
        slurm("scontrol", "update", "nodename=n2", "state=resume")
    else:
        os.kill(max(tasks), signal.SIGKILL)
    done = finished(process)
    wait_for(lambda: slurm("sinfo", "-h", "-t", "idle", "-o", "%D") == "3")
    assert done.status == 0, done.err + done.out
    assert done.line("result") == wanted
    states = [run.read().outcome.state for run in job.attempts()]
    assert states[-1] == FINISHED
    assert set(states[:-1]) == {INTERRUPTED}
    resumes = job.attempts()[-1].read().origin.resumes
    assert resumes is not None
    assert resumes.reproduced


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def command_of(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_a_node_with_other_data_starts_no_worker(small: Project, slurm: Cluster) -> None:
    """The others do not wait for it."""
    workers_script(small, 3, 0)
    process = submit_workers(small, "--data", "data", "--sbatch=--hold")
    job = job_of(small)
    worker = job.worker_script
    text = worker.read_text()
    # As if the second node saw another script: its task checks the recipe like the first.
    worker.chmod(0o755)
    worker.write_text(text.replace("exec env", f"echo 1 >{small.data / 'numbers.csv'}; exec env", 1))
    slurm("scontrol", "release", str(job.read().number))
    done = finished(process)
    assert done.status == 2
    assert "worker 1 of 2 cannot start: the node n" in done.err + done.out
    assert "makes another recipe than was submitted: data.tree" in done.err + done.out


_KEPT = ["checkpoints", "code", "image", "models", "outputs"]

NO_NETWORK = """
import socket
for where in (("127.0.0.1", 17000), ("1.1.1.1", 53), (os.uname().nodename, 17000)):
    try:
        socket.create_connection(where, timeout=5).close()
        print("reached", where)
    except OSError as error:
        print("closed", type(error).__name__)
"""


@pytest.fixture
def closed(in_docker: Project, slurm: Cluster) -> Project:
    """A script of two workers, which looks for a network and for Slurm's own ports."""
    assert slurm.state.is_dir()
    workers_script(in_docker, 3, 0)
    text = in_docker.script.read_text()
    in_docker.write(text.replace("strategy = tf", f"{NO_NETWORK}strategy = tf", 1))
    return in_docker


@pytest.mark.usefixtures("no_containers")
@pytest.mark.parametrize("runtime", ["docker", "podman", "apptainer"])
def test_workers_in_containers_give_the_bits_of_local_workers(
    closed: Project, runtime: str, request: pytest.FixtureRequest
) -> None:
    """They have no network all the same."""
    image = request.getfixturevalue("podman") if runtime == "podman" else None
    if runtime == "apptainer":
        request.getfixturevalue("apptainer")
    options = () if image is None else ("--image", image)
    wanted = local_workers(closed, *options, runtime="docker")
    closed.runtime = runtime
    done = finished(submit_workers(closed, *options, "--sbatch=--nodelist=n2,n3"))
    assert done.status == 0, done.err + done.out
    assert done.line("result") == wanted
    assert done.out.count("closed ") == 3
    assert "reached" not in done.out
    job = job_of(closed)
    assert recorded(job)[0] == runtime
    (run,) = job.attempts()
    assert sorted(path.name for path in run.path.iterdir() if path.is_dir()) == _KEPT
    assert (run.outputs / "model.keras").exists()


@pytest.mark.usefixtures("no_containers", "apptainer")
def test_nodes_with_different_engines(closed: Project, slurm: Cluster) -> None:
    """The chief's has Docker, the other one Apptainer alone, with the image unpacked."""
    wanted = local_workers(closed, runtime="apptainer")
    closed.runtime = "container"
    process = submit_workers(closed, "--sbatch=--hold")
    job = job_of(closed)
    _without_docker(job)
    slurm("scontrol", "release", str(job.read().number))
    done = finished(process)
    assert done.status == 0, done.err + done.out
    assert done.line("result") == wanted
    assert recorded(job)[0] == "docker"


def _without_docker(job: JobDir) -> None:
    """Have no Docker answer on the node of the second worker."""
    text = job.worker_script.read_text()
    job.worker_script.write_text(re.sub(r"DOCKER_HOST=\S+", "DOCKER_HOST=unix:///nonexistent/docker.sock", text))


@pytest.mark.usefixtures("no_containers")
def test_a_lost_worker_in_a_container(in_docker: Project, slurm: Cluster) -> None:
    workers_script(in_docker, 8, 0.5)
    wanted = local_workers(in_docker, runtime="docker")
    process = submit_workers(in_docker, "--sbatch=--nodelist=n1,n2")
    job = job_of(in_docker)
    first = trains(job)
    tasks = [pid for pid in processes() if f"--worker\0{job.path.absolute()}".encode() in command_of(pid)]
    os.kill(max(tasks), signal.SIGKILL)
    done = finished(process)
    assert done.status == 0, done.err + done.out
    assert done.line("result") == wanted
    assert resumed_once(job, first).checkpoint is not None
    assert slurm("squeue", "-h") == ""


@pytest.mark.usefixtures("no_containers")
def test_a_node_without_the_image_starts_no_worker(in_docker: Project, slurm: Cluster) -> None:
    """It is named, in one line."""
    workers_script(in_docker, 3, 0)
    process = submit_workers(in_docker, "--sbatch=--hold")
    job = job_of(in_docker)
    _without_docker(job)
    slurm("scontrol", "release", str(job.read().number))
    done = finished(process)
    assert done.status == 2
    reason = (
        r"worker 1 of 2 cannot start: the node n[123] cannot train: no container engine answers at unix:///nonexist"
    )
    assert re.search(reason, done.err + done.out)
    assert [run.read().outcome.state for run in job.attempts()] == ["failed"]


def test_a_task_that_ends_before_its_worker_joins(small: Project, slurm: Cluster) -> None:
    """The job is requeued within seconds, and its next attempt has all workers."""
    workers_script(small, 3, 0)
    wanted = local_workers(small)
    process = submit_workers(small, "--sbatch=--hold")
    job = job_of(small)
    text, once = job.worker_script.read_text(), small.folder / "once"
    job.worker_script.write_text(
        text.replace("exec env", f"[ -e {once} ] || {{ touch {once}; kill -9 $$; }}; exec env")
    )
    began = time.monotonic()
    slurm("scontrol", "release", str(job.read().number))
    done = finished(process)
    assert done.status == 0, done.err + done.out
    assert time.monotonic() - began < 120
    assert done.line("result") == wanted
    first, last = (run.read() for run in job.attempts())
    assert (first.outcome.state, last.outcome.state) == (INTERRUPTED, FINISHED)
    assert re.fullmatch(
        r"worker 1 of 2 was lost before it joined: its task on n[123] ended with status \d+", str(first.outcome.message)
    )
