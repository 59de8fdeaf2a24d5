"""Runs on a real Slurm of three nodes on this machine: the same bits, after whatever happens to a job.

All are `slow`: they train without the warm start, which no node has. Left out where Slurm cannot be installed.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.liveness import DEAD
from samebits.core.record import FINISHED, INTERRUPTED, read_record
from samebits.host.cluster.job_dir import JobDir
from support.cluster_jobs import (
    SLOW_SCRIPT,
    finished,
    job_of,
    resumed_once,
    started,
    trained_here,
    trains,
    wait_for,
)
from support.command import COMMAND, Done, Project, call
from support.machine import containers
from support.slurm_cluster import Cluster, recorded

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("locked")]


def submit(project: Project, *options: str, epochs: int = 8, pause: float = 0.4) -> subprocess.Popen[str]:
    """`train --on slurm`, followed by this process."""
    words = ("train", "train.py", "--runtime", project.runtime, "--on", "slurm", "--env", f"PAUSE={pause}", *options)
    return started(project, words, epochs, {**os.environ, "OF_THE_SUBMITTER": "1", "SBATCH_EXPORT": "ALL"})


def local(project: Project, epochs: int = 8, pause: float = 0.4) -> str:
    """The result in a virtual environment on this machine."""
    return trained_here(project, ("--runtime", "venv"), epochs, pause).line("result")


def test_the_same_bits_and_nothing_of_the_submitter(small: Project) -> None:
    done = finished(submit(small, "--sbatch=--nodelist=n2", epochs=2, pause=0))
    assert done.status == 0, done.err
    assert done.line("result") == local(small, 2, 0)
    assert "OF_THE_SUBMITTER" not in done.out
    assert "SLURM" not in done.line("environment")
    job = job_of(small)
    assert f"job {job.path.name} on n2" in done.out
    record = job.attempts()[0].read()
    assert (record.outcome.state, record.environment.runtime) == (FINISHED, "venv")
    shown = json.loads(call("list", "--jobs", "--json", folder=small.folder).out)
    assert [(row["state"], row["attempts"]) for row in shown] == [("finished", 1)]


def test_preempted_and_resumed(small: Project, slurm: Cluster) -> None:
    process = submit(small)
    job = job_of(small)
    first = trains(job)
    slurm("scancel", "--batch", "--signal=TERM", str(job.read().number))
    done = finished(process)
    assert done.status == 0, done.err
    assert "preempted" in done.err
    assert done.line("result") == local(small)
    resumed_once(job, first)
    assert job.attempts()[1].read().origin.attempts == (first.path.name,)


def test_a_node_dies(small: Project, slurm: Cluster) -> None:
    process = submit(small)
    job = job_of(small)
    first = trains(job)
    host, node = read_record(first.record).host, slurm("squeue", "-h", "-o", "%N")
    assert host is not None
    step = int(Path(f"/proc/{host.launcher.pid}/stat").read_text().rpartition(")")[2].split()[1])
    # The daemon first: with it nobody reports how the job ended.
    for pid in (int((slurm.state / f"slurmd.{node}.pid").read_text()), step, host.launcher.pid):
        os.kill(pid, signal.SIGKILL)
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=died")
    done = finished(process)
    subprocess.run(["slurmd", "-N", node], check=True)
    wait_for(lambda: slurm("sinfo", "-h", "-t", "idle", "-o", "%D") == "3")
    assert done.status == 0, done.err
    assert done.line("result") == local(small)
    assert [run.read().outcome.state for run in job.attempts()] == [INTERRUPTED, FINISHED]


@contextmanager
def declared_dead(slurm: Cluster) -> Iterator[None]:
    """Have Slurm give up the node that trains, which does not hear of it while the body runs; then it comes back."""
    node = slurm("squeue", "-h", "-o", "%N")
    # A daemon that does not listen ends no job.
    daemon = int((slurm.state / f"slurmd.{node}.pid").read_text())
    os.kill(daemon, signal.SIGSTOP)
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=unreachable")
    try:
        yield
    finally:
        os.kill(daemon, signal.SIGCONT)
        with suppress(subprocess.CalledProcessError):
            slurm("scontrol", "update", f"nodename={node}", "state=resume")


def test_a_node_is_declared_dead_and_finishes(small: Project, slurm: Cluster) -> None:
    process = submit(small, epochs=40, pause=0.5)
    job = job_of(small)
    first = trains(job)
    with declared_dead(slurm):
        done = finished(process)
        wait_for(lambda: read_record(first.record).finalized)
    assert done.status == 0, done.err
    records = [run.read() for run in job.attempts()]
    assert [record.outcome.state for record in records] == [FINISHED, FINISHED]
    assert records[0].result_digest == records[1].result_digest
    assert "still runs; this attempt starts over, and their results are compared" in done.out + done.err


def test_a_node_that_comes_back_ends_its_own_attempt_alone(small: Project, slurm: Cluster) -> None:
    """Slurm ends the attempt that it had given up. That one does not requeue the job, which trains elsewhere."""
    process = submit(small, epochs=80, pause=0.5)
    job = job_of(small)
    first = trains(job)
    with declared_dead(slurm):
        trains(job, attempt=1)
    done = finished(process)
    assert done.status == 0, done.err
    wait_for(lambda: read_record(first.record).finalized)
    assert [run.read().outcome.state for run in job.attempts()] == [INTERRUPTED, FINISHED]
    assert "Restarts=1 " in slurm("scontrol", "--oneliner", "show", "job", str(job.read().number))


@pytest.mark.parametrize("command", ["samebits", "scancel"])
def test_cancelled(small: Project, slurm: Cluster, command: str) -> None:
    process = submit(small, epochs=400)
    job = job_of(small)
    run = trains(job)
    if command == "samebits":
        assert call("cancel", job.path.name, folder=small.folder).status == 0
    else:
        slurm("scancel", str(job.read().number))
    done = finished(process)
    by = "by samebits cancel" if command == "samebits" else "from outside"
    assert (done.status, done.err.splitlines()[-1]) == (2, f"samebits: {job.path.name}: cancelled ({by})")
    wait_for(lambda: read_record(run.record).finalized)
    assert len(job.attempts()) == 1
    again = call("cancel", job.path.name, folder=small.folder)
    assert again.complaint == f"the job {job.path.name} is over: cancelled ({by}); there is nothing to cancel"


@pytest.mark.usefixtures("no_containers")
@pytest.mark.parametrize("how", [(), ("--signal=KILL", "--batch")], ids=["term", "kill"])
def test_a_container_ends_with_its_job(slurm: Cluster, in_docker: Project, how: tuple[str, ...]) -> None:
    in_docker.write(SLOW_SCRIPT)
    process = submit(in_docker, epochs=400)
    job = job_of(in_docker)
    run = trains(job)
    slurm("scancel", *how, str(job.read().number))
    assert finished(process).status == 2
    wait_for(lambda: not containers())
    if how:
        # Nobody is left who could finalize the record. It is known to be dead, so `resume` takes it over.
        assert run.liveness(read_record(run.record)) == DEAD
    else:
        wait_for(lambda: read_record(run.record).finalized)
        assert run.read().outcome.state == INTERRUPTED


def test_podman_on_the_node_gives_the_bits_of_docker(in_docker: Project, podman: str) -> None:
    """The submitter has Docker. Its node has Podman alone, and pulls the image by digest."""
    in_docker.write(SLOW_SCRIPT)
    wanted = trained_here(in_docker, ("--image", podman), 2, 0)
    in_docker.runtime = "container"
    process = submit(in_docker, "--image", podman, "--sbatch=--hold", epochs=2, pause=0)
    job = job_of(in_docker)
    script = job.script.read_text()
    assert "DOCKER_HOST=" in script
    job.script.write_text(re.sub(r"DOCKER_HOST=\S+", "DOCKER_HOST=unix:///nonexistent/docker.sock", script))
    subprocess.run(["scancel", str(job.read().number)], check=True)
    assert finished(process).status == 2
    number = subprocess.run(["sbatch", "--parsable", job.script], check=True, capture_output=True, text=True)
    job.write(replace(job.read(), number=number.stdout.strip()))
    followed = call("follow", job.path.name, folder=in_docker.folder)
    assert followed.status == 0, followed.err + followed.out
    assert (followed.line("recipe"), followed.line("result")) == (wanted.line("recipe"), wanted.line("result"))
    assert "SLURM" not in followed.line("environment")
    assert recorded(job) == ("podman", "Podman Engine")


def test_podman_from_end_to_end(in_docker: Project, slurm: Cluster, podman: str) -> None:
    """No Docker at all; preempted, resumed in Podman, and verified in it."""
    in_docker.write(SLOW_SCRIPT)
    in_docker.runtime = "podman"
    process = submit(in_docker, "--image", podman, epochs=30)
    job = job_of(in_docker)
    trains(job)
    slurm("scancel", "--batch", "--signal=TERM", str(job.read().number))
    done = finished(process)
    assert done.status == 0, done.err + done.out
    assert [run.read().outcome.state for run in job.attempts()] == [INTERRUPTED, FINISHED]
    assert recorded(job, 0) == recorded(job, 1) == ("podman", "Podman Engine")
    assert done.line("result") == trained_here(in_docker, ("--image", podman), 30, 0.4).line("result")
    left = subprocess.run(["podman", "ps", "--all", "--quiet"], capture_output=True, text=True, check=True)
    assert left.stdout == ""


@pytest.mark.usefixtures("apptainer")
def test_apptainer_from_end_to_end(in_docker: Project, slurm: Cluster) -> None:
    """Submitted from a machine with Docker; its node has Apptainer alone. Preempted, and resumed in it."""
    in_docker.write(SLOW_SCRIPT)
    in_docker.runtime = "apptainer"
    process = submit(in_docker, epochs=30)
    job = job_of(in_docker)
    assert "DOCKER_HOST" not in job.script.read_text()
    trains(job)
    slurm("scancel", "--batch", "--signal=TERM", str(job.read().number))
    done = finished(process)
    assert done.status == 0, done.err + done.out
    assert [run.read().outcome.state for run in job.attempts()] == [INTERRUPTED, FINISHED]
    assert recorded(job, 0) == recorded(job, 1) == ("apptainer", "Apptainer")
    assert done.line("result") == trained_here(in_docker, ("--runtime", "docker"), 30, 0.4).line("result")


def test_an_image_that_the_node_cannot_have(in_docker: Project, podman: str) -> None:
    """By name, Podman has none, and builds none."""
    assert podman
    in_docker.runtime = "docker"
    process = submit(in_docker, "--sbatch=--hold", epochs=2, pause=0)
    job = job_of(in_docker)
    job.write(replace(job.read(), config=replace(job.read().config, runtime="podman", image=None)))
    subprocess.run(["scontrol", "release", str(job.read().number)], check=True)
    done = finished(process)
    assert done.status == 2
    assert "Podman has no image samebits:cpu, and does not build it" in done.err.splitlines()[-1]
    assert job.attempts() == []


def held(project: Project, slurm: Cluster, change: Callable[[JobDir], object]) -> tuple[Done, JobDir]:
    """A job that waits until something was changed."""
    process = submit(project, "--data", "data", "--sbatch=--hold", epochs=2, pause=0)
    job = job_of(project)
    number = str(job.read().number)
    shown = call("show", job.path.name, folder=project.folder)
    assert shown.line("state     ").strip() == "queued"
    change(job)
    slurm("scontrol", "release", number)
    wait_for(lambda: number not in slurm("squeue", "-h", "-o", "%i").split())
    return finished(process), job


def test_data_that_the_node_sees_otherwise(small: Project, slurm: Cluster) -> None:
    done, job = held(small, slurm, lambda _: (small.data / "numbers.csv").write_text("1\n"))
    node = f"the node n{done.out.partition(' on n')[2][:1]} makes another recipe than was submitted: data.tree"
    assert done.status == 2
    assert f"{node}; nothing was trained" in done.err.splitlines()[-1]
    assert job.attempts() == []


@pytest.mark.parametrize("what", ["its file", "its folder"])
def test_a_folder_that_the_node_does_not_see(small: Project, slurm: Cluster, what: str) -> None:
    def hide(job: JobDir) -> None:
        if what == "its file":
            os.rename(job.file, small.folder / "hidden.json")
        else:
            # Where the folder is missing, Slurm cannot print there, and starts no script.
            slurm("scontrol", "update", f"jobid={job.read().number}", f"stdout={small.folder}/missing/log.txt")

    done, job = held(small, slurm, hide)
    where = f"its node does not see {job.path}; put the runs on a file system that all nodes share"
    assert (done.status, done.err.splitlines()[-1]) == (2, f"samebits: {job.path.name}: failed ({where})")


def test_ctrl_c_lets_go(small: Project, slurm: Cluster) -> None:
    process = submit(small, "--sbatch=--hold")
    job = job_of(small)
    process.send_signal(signal.SIGINT)
    done = finished(process)
    name = job.path.name
    assert (done.status, done.err.splitlines()[-1]) == (
        130,
        f"samebits: the job continues; `samebits follow {name}` follows it again, `samebits cancel {name}` cancels it",
    )
    assert slurm("squeue", "-h", "-o", "%i") == job.read().number
    assert call("cancel", name, folder=small.folder).status == 0
    wait_for(lambda: "cancelled" in call("show", name, folder=small.folder).out)


def test_what_slurm_refuses(small: Project) -> None:
    done = finished(submit(small, "--sbatch=--partition=nowhere"))
    assert done.status == 2
    refused = "Slurm refuses the job: invalid partition specified: nowhere; change --sbatch, or [on.slurm]"
    assert done.complaint == f"{refused} in samebits.toml"
    assert list(small.runs.glob("jobs/*")) == []


def test_slurm_checks_a_dry_run(small: Project, slurm: Cluster) -> None:
    done = finished(submit(small, "--dry-run", "--sbatch=--nodelist=n2 --time=10"))
    assert done.status == 0, done.err
    assert done.err.splitlines()[-1] == "samebits: Slurm would take the job"
    refused = finished(submit(small, "--dry-run", "--sbatch=--partition=nowhere"))
    assert refused.status == 2
    assert refused.err.splitlines()[-1].startswith("samebits: Slurm refuses the job: ")
    assert "nowhere" in refused.err or "partition" in refused.err
    assert refused.out.startswith("# sbatch ")
    assert slurm("squeue", "-h") == ""
    assert not (small.runs / "jobs").exists()


def test_segments_as_a_job_array(small: Project, slurm: Cluster) -> None:
    done = call(
        "train", "train.py", "--runtime", "venv", "--keep", "all", "--env", "PAUSE=0", "--", "4", folder=small.folder
    )
    assert done.status == 0, done.err
    verified = call(
        "verify", "last", "--segments", "--jobs", "2", "--on", "slurm", "--sbatch=--time=30", folder=small.folder
    )
    assert (verified.status, verified.out.splitlines()[-1]) == (0, "identical (4 of 4 segments)"), verified.err
    assert slurm("scontrol", "--oneliner", "show", "job").count("ArrayTaskId=") == 2
    assert list(small.runs.glob(".segments-*")) == []


def test_a_sweep_as_a_job_array(small: Project, slurm: Cluster) -> None:
    words = ("sweep", "train.py", "--runtime", "venv", "--env", "PAUSE=0", "--seeds", "0-2")
    done = call(*words, "--on", "slurm", "--sbatch=--time=30", "--", "2", folder=small.folder)
    assert done.status == 0, done.err
    local = call(*words, "--runs", "local", "--jobs", "2", "--", "2", folder=small.folder)
    assert done.line("digest") == local.line("digest")
    assert "ArrayTaskId=2" in slurm("scontrol", "--oneliner", "show", "job")


def test_a_task_that_is_lost(small: Project, slurm: Cluster) -> None:
    words = ("train", "train.py", "--runtime", "venv", "--keep", "all", "--env", "PAUSE=1", "--", "4")
    done = call(*words, folder=small.folder)
    assert done.status == 0, done.err
    verify = [*COMMAND, "verify", "last", "--segments", "--on", "slurm", "--sbatch=--hold"]
    process = subprocess.Popen(verify, cwd=small.folder, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: slurm("squeue", "-h", "-o", "%i"))
    slurm("scancel", slurm("squeue", "-h", "-o", "%A"))
    _, complaint = process.communicate(timeout=200)
    assert process.returncode == 2
    assert "of the job array was lost: Slurm says CANCELLED" in complaint
