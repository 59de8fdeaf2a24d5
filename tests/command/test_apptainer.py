"""Runs in a real Apptainer, which `tools/apptainer.sh` fetches: the bits of Docker, and as closed as Docker.

All are `slow`: they unpack an image of two gigabytes. Left out where Apptainer cannot be fetched, or does not start.
"""

import signal
import subprocess
from pathlib import Path

import pytest

from samebits.core.liveness import DEAD
from samebits.core.record import FINISHED, INTERRUPTED, read_record
from samebits.core.run_dir import RunDir
from samebits.host.cache_dir import cache_folder
from samebits.host.image.build_context import CPU
from support.cluster_jobs import SLOW_SCRIPT, started, trained_here, wait_for
from support.command import COMMAND, Project, call, newest
from support.probe import PROBE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("engine", "apptainer")]

NO_DOCKER = "unix:///nonexistent/docker.sock"
SITE = """
print("site", sorted(name for name in os.environ if "APPTAINER" in name or "SINGULARITY" in name or name == "X"))
print("mounted", os.path.exists("/mnt/passwd"), len(os.listdir("/home")))
"""


@pytest.fixture
def in_apptainer(in_docker: Project) -> Project:
    in_docker.runtime = "apptainer"
    return in_docker


def test_the_bits_of_docker(in_apptainer: Project) -> None:
    done = in_apptainer.train()
    assert done.status == 0, done.err
    wanted = in_apptainer.train("--runtime", "docker")
    assert (done.line("recipe"), done.line("result")) == (wanted.line("recipe"), wanted.line("result"))
    record = read_record(Path(in_apptainer.folder, done.run, "record.json"))
    engine, image = record.environment.engine, record.environment.image
    assert engine is not None
    assert image is not None
    assert (record.environment.runtime, engine.name) == ("apptainer", "Apptainer")
    assert image.id == str(record.recipe.image.config)
    verified = call("verify", str(done.run), "--data", "data", folder=in_apptainer.folder, DOCKER_HOST=NO_DOCKER)
    assert verified.status == 0, verified.out + verified.err
    assert read_record(newest(in_apptainer).record).environment.runtime == "apptainer"


def test_what_a_script_can_do(in_apptainer: Project) -> None:
    """Whatever the site's variables say."""
    in_apptainer.write(PROBE + SITE)
    site = {"APPTAINER_BIND": "/etc:/mnt", "SINGULARITY_BINDPATH": "/etc:/mnt", "APPTAINERENV_X": "1", "X": "1"}
    done = in_apptainer.train(**site)
    assert done.status == 0, done.err
    found = dict(line.split(" ", 1) for line in done.out.splitlines() if " " in line)
    closed = {"/", "/work", "/data", "/opt/samebits", "/runs", *(name for name in found if name.endswith("/code"))}
    assert len(closed) == 6
    assert {found[name] for name in closed} == {"Read-only file system"}
    assert found["network"] == "Network is unreachable"
    assert (found["/tmp"], found["outputs"]) == ("done", "done")
    assert found["capabilities"] == "0000000000000000 0000000000000000 1"
    assert found["first"] == "True python"  # the watcher, whose child trains
    assert (found["site"], found["mounted"]) == ("[]", "False 0")


def training(project: Project) -> tuple[subprocess.Popen[str], RunDir]:
    """A run in Apptainer that has written two checkpoints."""
    project.write(SLOW_SCRIPT)
    process = started(project, ("train", "train.py", "--runtime", "apptainer", "--env", "PAUSE=0.4"), 12)
    wait_for(lambda: list(project.runs.glob("2*/")) and len(newest(project).checkpoints_now.positions()) >= 2, process)
    return process, newest(project)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_resumed(in_apptainer: Project, number: signal.Signals) -> None:
    process, run = training(in_apptainer)
    training_process = read_record(RunDir(run.staging).record).host
    process.send_signal(number)
    process.communicate(timeout=100)
    # Nothing trains on.
    wait_for(lambda: run.liveness(read_record(run.record)) == DEAD or read_record(run.record).finalized)
    assert training_process is not None
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if run.path.name.encode() in _words(path)]
    resumed = call("resume", run.path.name, folder=in_apptainer.folder, DOCKER_HOST=NO_DOCKER)
    assert resumed.status == 0, resumed.out + resumed.err
    assert run.read().outcome.state == INTERRUPTED
    new = newest(in_apptainer).read()
    assert (new.outcome.state, new.environment.runtime) == (FINISHED, "apptainer")
    assert resumed.line("result") == trained_here(in_apptainer, ("--runtime", "docker"), 12, 0.4).line("result")


def _words(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_an_archive_where_no_engine_is(in_apptainer: Project, open_folder: Path) -> None:
    archive = open_folder / "image.tar"
    assert subprocess.run([*COMMAND, "build"], check=False).returncode == 0
    subprocess.run(["docker", "save", CPU.tag, "-o", archive], check=True)
    here = {"DOCKER_HOST": NO_DOCKER, "SAMEBITS_CACHE": str(open_folder / "cache")}
    without = in_apptainer.train(**here)
    assert without.complaint.startswith("Apptainer has no image samebits:cpu, and builds none; name one by digest in a")
    done = in_apptainer.train("--image", str(archive), **here)
    assert done.status == 0, done.err
    # It is there now, under no name.
    archive.unlink()
    assert in_apptainer.train(**here).line("result") == done.line("result")


def test_an_unpacked_image_that_was_changed(in_apptainer: Project) -> None:
    assert in_apptainer.train().status == 0
    config = read_record(newest(in_apptainer).record).recipe.image.config
    assert config is not None
    changed = cache_folder("apptainer") / config.hex / "rootfs" / "opt" / "samebits" / "new.py"
    changed.touch()
    try:
        refused = in_apptainer.train()
    finally:
        changed.unlink()
    assert refused.status == 2
    assert "was changed: rootfs/opt/samebits/new.py (added); remove it" in refused.err.splitlines()[-1]
    assert in_apptainer.train("--strict").status == 0
