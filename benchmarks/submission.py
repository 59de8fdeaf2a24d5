"""What `--on slurm` adds until a run has begun (about 2 minutes).

Starts a Slurm of three nodes on this machine (`tools/slurm.sh`), as root. Local runs and jobs are started in turns,
with the virtual environment. Each is ended once its run's record is there: what comes after is the same for both. Slurm
makes a job's log when it starts the job, so the time that Slurm takes is known separately.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from figures import Figure
from measuring import COMMAND, ROOT, Options, UnavailableError, call, interleaved, samebits, scratch

TABLE = "until the run has begun"
HERE, JOB, ADDED = "here", "as a job", "added"
SLURM, OURS = "of that, from `sbatch`'s answer until Slurm starts the job", "of that, samebits"
SECONDS = 1.0
"""The most that a job may add, and of that samebits."""

POLL_SECONDS = 0.005
LIMIT_SECONDS = 60.0
TOOL = ROOT / "tools" / "slurm.sh"
UNABLE = 2
"""The exit status of the tool where no Slurm can run."""

Moments = Mapping[str, float]
"""Seconds from the command's start until the job has a number, until Slurm starts it, and until the run has begun."""


def measure(options: Options) -> Iterator[Figure]:
    """Rounds here and as a job. The first one makes what is cached."""
    if os.geteuid() != 0:
        raise UnavailableError("needs root, to start a Slurm")
    with scratch() as folder, cluster(folder / "slurm") as environment:
        # Beside the cluster's own files, which are no code.
        project = folder / "project"
        project.mkdir()
        (project / "train.py").write_text("import time\ntime.sleep(600)\n")
        actions = {HERE: partial(local, project), JOB: partial(submitted, project, environment)}
        found = interleaved(actions, options.rounds_or(7), warm=1)
    yield from figures(found[HERE], found[JOB])


def figures(here: list[Moments], jobs: list[Moments]) -> Iterator[Figure]:
    """A job's seconds in parts: what Slurm takes on an idle cluster is its own."""
    rounds = [*zip(here, jobs, strict=True)]
    added = [job["begun"] - one["begun"] for one, job in rounds]
    slurms = [job["started"] - job["submitted"] for job in jobs]
    rows = {
        HERE: ([one["begun"] for one in here], None),
        JOB: ([job["begun"] for job in jobs], None),
        ADDED: (added, SECONDS),
        SLURM: (slurms, None),
        OURS: ([whole - part for whole, part in zip(added, slurms, strict=True)], SECONDS),
    }
    for row, (values, most) in rows.items():
        yield Figure(table=TABLE, row=row, column="", values=tuple(values), unit="s", most=most)


@contextmanager
def cluster(state: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a Slurm of three nodes; raises UnavailableError where none can run."""
    try:
        if call(TOOL, "up", state, statuses=(0, UNABLE)).status == UNABLE:
            raise UnavailableError("needs Slurm, which `tools/slurm.sh up` cannot start here")
        yield {**os.environ, "SLURM_CONF": str(state / "slurm.conf")}
    finally:
        call(TOOL, "down", state, statuses=(0, 1, UNABLE))


def local(folder: Path) -> Moments:
    """A run of this machine, which is ended."""
    runs, started = folder / "local", time.monotonic()
    process = _start(folder, runs, os.environ)
    begun = _wait(lambda: list(runs.glob("2*/record.json"))) - started
    process.terminate()
    process.wait()
    shutil.rmtree(runs)
    return {"begun": begun}


def submitted(folder: Path, environment: Mapping[str, str]) -> Moments:
    """A job, which is cancelled; waits until Slurm is idle again."""
    runs, started = folder / "jobs", time.monotonic()
    process = _start(folder, runs, environment, "--on", "slurm")
    found = {
        "submitted": _wait(lambda: [path for path in runs.glob("jobs/*/job.json") if '"job": "' in path.read_text()]),
        "started": _wait(lambda: list(runs.glob("jobs/*/log.txt"))),
        "begun": _wait(lambda: list(runs.glob("2*/record.json"))),
    }
    (job,) = runs.glob("jobs/*")
    samebits("cancel", job.name, "--runs", runs, folder=folder, environment=environment)
    process.wait()
    _wait(lambda: not call("squeue", "--noheader", environment=environment).output)
    shutil.rmtree(runs)
    return {name: at - started for name, at in found.items()}


def _start(folder: Path, runs: Path, environment: Mapping[str, str], *more: str) -> subprocess.Popen[bytes]:
    words = [COMMAND, "train", "train.py", "--runtime", "venv", "--runs", str(runs), *more]
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait(found: Callable[[], object]) -> float:
    """When something was found."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not found():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing happened in {LIMIT_SECONDS:.0f} seconds")
        time.sleep(POLL_SECONDS)
    return time.monotonic()
