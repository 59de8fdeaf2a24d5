"""What goes wrong ends in one line, the right status, and loses nothing."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.core.record import read_record
from support.command import COMMAND, Done, Project, call, newest
from support.machine import started


def _no_script(project: Project) -> None:
    project.script.unlink()


def _no_data(project: Project) -> None:
    shutil.rmtree(project.data)


def _empty_data(project: Project) -> None:
    (project.data / "numbers.csv").unlink()


def _loop(project: Project) -> None:
    (project.data / "again").symlink_to(".")


def _socket(project: Project) -> None:
    folder = Path.cwd()
    os.chdir(project.data)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("s")
    os.chdir(folder)


def _not_utf8(project: Project) -> None:
    (Path(os.fsdecode(os.fsencode(project.data) + b"/\xff"))).touch()


@pytest.mark.parametrize(
    ("prepare", "options", "complaint"),
    [
        (_no_script, [], "the script train.py does not exist; name a Python file"),
        (
            lambda project: project.script.write_bytes(b"\x7fELF\0\0"),
            [],
            (
                "the script train.py is not Python source: source code string cannot contain null bytes;"
                " name a Python file"
            ),
        ),
        (
            lambda project: project.write("x = (\n"),
            [],
            "the script train.py is not valid Python: line 1: '(' was never closed; fix it and run again",
        ),
        (_no_data, [], "the data folder data does not exist; name a folder that holds the data"),
        (_empty_data, [], "the data folder data is empty; name a folder that holds the data"),
        (_loop, [], "the data folder holds a link that loops: {data}/again; remove the link"),
        (
            _socket,
            [],
            (
                "the data folder holds {data}/s, which is neither a file nor a folder (a socket, a pipe or a device);"
                " remove it"
            ),
        ),
        (_not_utf8, [], "the data folder holds a name that is not UTF-8: b'\\xff'; rename it"),
        (None, ["--seed", "x"], "argument --seed: invalid int value: 'x'; see 'samebits train --help'"),
        (None, ["--threads", "x"], "argument --threads: invalid int value: 'x'; see 'samebits train --help'"),
        (None, ["--threads", "0"], "threads must be from 1 to 1024, not 0"),
        (
            lambda project: (project.folder / "samebits.toml").write_text("sede = 1\n"),
            [],
            "samebits.toml: unknown key 'sede'; did you mean 'seed'?",
        ),
        (None, ["--gpus", "some"], "gpus must be 'all' or a number, not 'some'"),
        (
            None,
            ["--runs", "/proc/runs"],
            "cannot write /proc/runs: No such file or directory; choose a folder that you may write to",
        ),
    ],
)
def test_one_line_and_status_2(
    project: Project, prepare: Callable[[Project], object] | None, options: list[str], complaint: str
) -> None:
    if prepare is not None:
        prepare(project)
    done = project.train(*options)
    assert done.status == 2
    assert done.complaint == complaint.format(data=project.data)
    assert not list(project.runs.glob("*/"))


def test_unreadable_data_and_runs(project: Project) -> None:
    (project.data / "numbers.csv").chmod(0)
    done = _as_nobody(project)
    assert done.complaint == f"cannot read {project.data}/numbers.csv: Permission denied; make it readable for you"
    (project.data / "numbers.csv").chmod(0o644)
    project.runs.mkdir(mode=0o755)
    done = _as_nobody(project)
    assert done.status == 2
    assert done.complaint == "cannot write runs: Permission denied; choose a folder that you may write to"


def _as_nobody(project: Project) -> Done:
    """Train without root's right to read and write everything; as ourselves where we are not root."""
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups"]
    for folder in [project.folder, *project.folder.parents[:3]]:
        folder.chmod(0o755)
    # The usual cache is open to its owner alone.
    cache = project.folder.parent / "cache-of-nobody"
    cache.mkdir(mode=0o700, exist_ok=True)
    if os.getuid() == 0:
        os.chown(cache, 65534, -1)
    command = [*(prefix if os.getuid() == 0 else []), *COMMAND, *project.command()[1:]]
    variables = os.environ | {"SAMEBITS_CACHE": str(cache)}
    done = subprocess.run(
        command, cwd=project.folder, env=variables, capture_output=True, text=True, timeout=300, check=False
    )
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


def test_a_script_that_raises(each_runtime: Project) -> None:
    each_runtime.write("def inner():\n    raise ValueError('no such layer')\n\n\ninner()\n")
    done = each_runtime.train()
    assert done.status == 1
    assert "no Keras model" not in done.err
    record = each_runtime.only_run()
    assert record.outcome.state == "failed"
    assert record.outcome.message == "the script failed: ValueError: no such layer"
    assert record.outcome.traceback is not None
    assert 'train.py", line 2, in inner' in record.outcome.traceback
    assert "samebits" not in record.outcome.traceback
    assert record.result is None
    assert record.outcome.traceback in (each_runtime.folder / done.run / "log.txt").read_text()


@pytest.mark.parametrize(
    ("script", "message", "last"),
    [
        ("raise KeyboardInterrupt", "the script failed: KeyboardInterrupt", "KeyboardInterrupt"),
        (
            "class Stop(BaseException): pass\nraise Stop('early\\nthen more')",
            "the script failed: Stop: early",
            "then more",
        ),
        ("raise ValueError('\\n first\\nsecond')", "the script failed: ValueError: first", "second"),
        ("raise GeneratorExit", "the script failed: GeneratorExit", "GeneratorExit"),
    ],
)
def test_whatever_a_script_raises(project: Project, script: str, message: str, last: str) -> None:
    """None of these came from outside, so the script failed; nothing was interrupted."""
    project.write(f"{script}\n")
    done = project.train()
    assert done.status == 1
    assert "samebits: " not in done.err
    outcome = project.only_run().outcome
    assert (outcome.state, outcome.message, outcome.exit_status) == ("failed", message, 1)
    assert outcome.traceback is not None
    lines = outcome.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith(f'train.py", line {len(script.splitlines())}, in <module>')
    assert lines[-1].endswith(last)
    assert outcome.traceback in (project.folder / done.run / "log.txt").read_text()
    assert outcome.traceback in done.err


@pytest.mark.parametrize(
    ("script", "status", "state", "message"),
    [
        ("import sys\nsys.exit(0)", 0, "finished", None),
        ("import sys\nsys.exit(3)", 1, "failed", "the script exited with status 3"),
        ("import sys\nsys.exit('no data')", 1, "failed", "the script exited: no data"),
        (
            "import os\nos.kill(os.getpid(), 9)",
            2,
            "interrupted",
            "the training process was killed by SIGKILL: by the system because memory ran out, or by someone",
        ),
        ("import os\nos._exit(0)", 2, "failed", "the training process ended with status 0"),
    ],
)
def test_ends_of_a_script(project: Project, script: str, status: int, state: str, message: str | None) -> None:
    project.write(script)
    assert project.train().status == status
    outcome = project.only_run().outcome
    assert outcome.state == state
    assert (outcome.message or "").startswith(message or "")


@pytest.mark.parametrize(
    ("script", "named"),
    [
        (
            "import os\nos.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'\n",
            ("TF_ENABLE_ONEDNN_OPTS=0", "TF_ENABLE_ONEDNN_OPTS=1"),
        ),
        (
            "import os\ndel os.environ['TF_ENABLE_ONEDNN_OPTS']\n",
            ("train.py:2 sets TF_ENABLE_ONEDNN_OPTS=(nothing)", "TF_ENABLE_ONEDNN_OPTS=1"),
        ),
        ("import os\nos.unsetenv('TZ')\n", ("train.py:2 sets TZ=(nothing)", "TZ=UTC")),
        ("import os\ntry:\n    os.putenv('TZ', 'CET')\nexcept Exception:\n    pass\n", ("TZ=CET", "TZ=UTC")),
        (
            "import tensorflow as tf\ntf.config.threading.set_intra_op_parallelism_threads(0)\n",
            ("train.py:2 sets TF_NUM_INTRAOP_THREADS to 0: as many threads as the machine has cores",),
        ),
    ],
)
def test_a_script_that_contradicts_the_profile(project: Project, script: str, named: tuple[str, ...]) -> None:
    project.write(script)
    done = project.train()
    assert done.status == 2
    assert all(name in done.err.splitlines()[-1] for name in named), done.err
    assert project.only_run().outcome.state == "failed"
    assert project.only_run().result is None


def test_an_environment_that_contradicts_the_profile(project: Project) -> None:
    done = project.train(TF_NUM_INTRAOP_THREADS="8")
    assert done.status == 2
    assert done.complaint == (
        "your environment sets TF_NUM_INTRAOP_THREADS=8, but the native profile needs TF_NUM_INTRAOP_THREADS=2"
        " (bits depend on the size of this pool); use --threads"
    )
    assert not project.runs.exists()


def test_data_that_changes_underneath(each_runtime: Project) -> None:
    """The script waits; the data is changed from outside, where no read-only mount can prevent it."""
    go = each_runtime.data / "numbers.csv"
    each_runtime.write(
        "import os, pathlib, time\nfile = pathlib.Path(os.environ['SAMEBITS_DATA'], 'numbers.csv')\n"
        "before = file.read_bytes()\nprint('ready', flush=True)\n"
        "while file.read_bytes() == before: time.sleep(0.05)\n"
    )
    with started(each_runtime.command(), cwd=each_runtime.folder) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        go.write_bytes(go.read_bytes().replace(b"0", b"1", 1))
        complaint = process.stderr.read()
        assert process.wait(300) == 2
    assert "samebits: the data changed during the run: numbers.csv;" in complaint
    assert each_runtime.only_run().outcome.state == "failed"


def test_a_script_that_changes_its_code(project: Project) -> None:
    (project.folder / "log.csv").write_text("of an earlier run\n")
    project.write("open('log.csv', 'w').write('new'); open('made.txt', 'w').write('x')\n")
    done = project.train()
    assert done.status == 2
    assert "the script changed files that were in its folder: log.csv; the result does not belong" in done.complaint
    run = newest(project)
    assert {path.name: path.read_text() for path in run.outputs.iterdir()} == {"log.csv": "new", "made.txt": "x"}
    assert (run.code / "log.csv").read_text() == "of an earlier run\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_does_not_cost_the_record(project: Project) -> None:
    """The script fills the disk; what was kept in reserve still seals the record."""
    project.write(
        "import os, pathlib\nwith open(pathlib.Path(os.environ['SAMEBITS_OUTPUT'], 'big'), 'wb') as file:\n"
        "    while True: file.write(bytes(1 << 16))\n"
    )
    project.runs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(project.runs)], check=True)
    try:
        done = project.train()
        assert done.status == 1
        outcome = project.only_run().outcome
        assert (outcome.state, outcome.message) == (
            "failed",
            "the script failed: OSError: [Errno 28] No space left on device",
        )
    finally:
        subprocess.run(["umount", str(project.runs)], check=True)


FILLED = """
import os, keras, numpy as np
x = np.ones((10, 400), dtype="float32")
model = keras.Sequential([keras.layers.Input((400,)), keras.layers.Dense(1500), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(x, x.sum(1), epochs=1, verbose=0)
big = os.path.join(os.environ["SAMEBITS_OUTPUT"], "big")
with open(big, "wb", buffering=0) as file:
    try:
        while True: file.write(bytes(1 << 14))
    except OSError:
        file.truncate(file.tell() - ROOM)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("room", [0, 40_000, 300_000])
def test_a_disk_that_is_full_when_the_model_is_saved(project: Project, room: int) -> None:
    project.write(FILLED.replace("ROOM", str(room)))
    project.runs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "none", str(project.runs)], check=True)
    try:
        done = project.train("--keep", "none")
        assert done.status == 2
        outcome = project.only_run().outcome
        assert outcome.state == "failed"
        assert (outcome.message or "").startswith("the disk is full: cannot write ")
        assert (outcome.message or "").endswith("0-sequential.keras; free some space and run again")
    finally:
        subprocess.run(["umount", str(project.runs)], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_full_from_the_start(project: Project) -> None:
    project.runs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(project.runs)], check=True)
    try:
        done = project.train()
        assert done.status == 2
        assert "the disk is full: cannot write " in done.complaint
        assert not list(project.runs.glob("*/"))
    finally:
        subprocess.run(["umount", str(project.runs)], check=True)


def test_no_gpu(each_runtime: Project) -> None:
    done = each_runtime.train("--gpus", "all")
    assert done.status == 2
    assert done.complaint.startswith("no GPU is available: NVML: ")
    assert done.complaint.endswith("; install NVIDIA's driver, or drop --gpus")


def test_no_engine(project: Project, tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/none.sock"
    project.runtime = "docker"
    done = project.train(DOCKER_HOST=nowhere)
    assert done.status == 2
    assert done.complaint == f"no container engine answers at {nowhere}; start one, or use --runtime venv"
    project.runtime = "auto"
    done = project.train(DOCKER_HOST=nowhere)
    assert done.status == 2
    assert done.complaint == f"no container engine answers at {nowhere}; start one, or use --runtime venv"


def test_no_engine_at_all(project: Project, tmp_path: Path) -> None:
    """Where none is configured, the locked virtual environment takes its place."""
    if os.path.lexists("/var/run/docker.sock"):
        pytest.skip("this machine has an engine at the usual place")
    project.runtime = "auto"
    done = project.train(DOCKER_HOST="", DOCKER_CONFIG=str(tmp_path))
    assert done.status == 0
    message = "no container engine answers at unix:///var/run/docker.sock: training in the locked virtual environment"
    assert f"samebits: {message} instead" in done.err.splitlines()
    record = read_record(project.folder / done.run / "record.json")
    assert record.environment.runtime == "venv"
    assert record.environment.image_note == "a virtual environment has no image digest"
    assert record.recipe.image.config is None


@pytest.mark.parametrize("host", ["tcp://[::1", "nonsense://x", "tcp://127.0.0.1:1"])
def test_an_engine_at_no_address(project: Project, host: str) -> None:
    project.runtime = "docker"
    done = project.train(DOCKER_HOST=host)
    assert done.status == 2
    assert done.complaint == f"no container engine answers at {host}; start one, or use --runtime venv"
    assert not project.runs.exists()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("samebits:none", "the engine has no image samebits:none; build it with `samebits build`"),
        ("Bad Name", "the container engine refused: "),
    ],
)
def test_a_named_image_is_not_replaced(project: Project, engine: str, name: str, complaint: str) -> None:
    """Who names an image means a container: there is no way back to the virtual environment."""
    assert engine
    project.runtime = "auto"
    done = project.train("--image", name)
    assert (done.status, done.out) == (2, "")
    assert done.complaint.startswith(complaint)
    assert done.err.count("\n") == 1
    assert not project.runs.exists()


def test_a_named_image_without_an_engine(project: Project, tmp_path: Path) -> None:
    project.runtime = "auto"
    done = project.train("--image", "samebits:cpu", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert done.status == 2
    assert done.complaint.startswith("no container engine answers at ")
    assert not project.runs.exists()


def test_build_without_an_engine(samebits: Callable[..., Done], tmp_path: Path) -> None:
    done = samebits("build", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert done.status == 2
    assert "no container engine answers" in done.complaint


def test_call_is_the_installed_command(project: Project) -> None:
    assert call("--version", folder=project.folder).out == "samebits 0.1.0\n"
