"""What a container can and cannot do, and training in it without a launcher."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.errors import APIError

from samebits.core.determinism_profile import FIXED_SETTINGS
from samebits.core.errors import EngineError
from samebits.core.record import read_record
from samebits.host.container_request import ContainerRequest
from samebits.host.docker import Engine, Image
from samebits.host.image.build_context import CPU, source_digest
from samebits.host.launch.container import run_container
from support.command import ROOT, Project
from support.images import plain_run
from support.machine import started
from support.probe import PROBE

pytestmark = pytest.mark.usefixtures("engine")


def test_a_script_that_asks_for_the_network_is_told_what_to_do(in_docker: Project) -> None:
    """In one line, the last one."""
    in_docker.write("import keras\nkeras.datasets.mnist.load_data()\n")
    done = in_docker.train()
    assert done.status == 1
    said = (
        "train.py:2: keras.datasets.mnist.load_data() asks the network for https://storage.googleapis.com/tensorflow/"
        "tf-keras-datasets/mnist.npz, and a run has none; run `samebits fetch train.py` once"
    )
    assert [line for line in done.err.splitlines() if line.startswith("samebits: ")][-1] == f"samebits: {said}"
    assert in_docker.only_run().outcome.message == said


def test_hardened(in_docker: Project) -> None:
    in_docker.write(PROBE)
    done = in_docker.train()
    assert done.status == 0, done.err
    assert done.line("network") == "Network is unreachable"
    folders = [line for line in done.out.splitlines() if line.startswith("/")]
    assert folders[-1] == "/tmp done"
    assert len(folders) == 7
    assert all(line.endswith(" Read-only file system") for line in folders[:-1]), folders
    assert done.line("outputs") == "done"
    assert done.line("capabilities") == "0000000000000000 0000000000000000 1"
    assert done.line("user") == f"{os.getuid()} {os.getgid()}"
    assert done.line("first") == "True python"  # the watcher, whose child trains


def test_the_callers_user_owns_the_run(in_docker: Project) -> None:
    done = in_docker.train()
    files = [path for path in (in_docker.folder / done.run).rglob("*") if path.name != "code"]
    assert {path.stat().st_uid for path in files} == {os.getuid()}


def test_the_record_names_the_image(in_docker: Project) -> None:
    record = read_record(in_docker.folder / in_docker.train().run / "record.json")
    built = json.loads(
        subprocess.run(["docker", "image", "inspect", "samebits:cpu"], capture_output=True, check=True).stdout
    )[0]
    assert record.environment.image is not None
    assert record.environment.image.id == built["Id"]
    assert record.recipe.image.config == Engine().config_digest(_image())
    assert record.recipe.image.lock == CPU.lock_digest
    assert record.recipe.image.source == source_digest(CPU)
    assert str(record.recipe.image.base) == built["Config"]["Labels"]["org.opencontainers.image.base.digest"]
    assert record.environment.engine is not None
    assert record.environment.engine.version


def _image() -> Image:
    image = Engine().find_image("samebits:cpu")
    assert image is not None
    return image


def test_plain_docker_run(in_docker: Project) -> None:
    in_docker.runs.mkdir()
    launched = in_docker.train("--seed", "3", "--", "--epochs", "1")
    plain = plain_run(in_docker, "train.py", "--seed", "3", "--", "--epochs", "1")
    assert plain.status == 0, plain.err
    assert plain.line("result") == launched.line("result")
    records = [read_record(in_docker.runs / Path(done.line("run")).name / "record.json") for done in (launched, plain)]
    recipes = [record.recipe.to_dict() for record in records]
    assert recipes[1]["image"].pop("config") is None
    assert recipes[0]["image"].pop("config") is not None
    assert recipes[0] == recipes[1]
    assert records[1].environment.image_note == ("started without a launcher: the image's own digest was not given")


def test_plain_docker_run_as_the_images_user(in_docker: Project) -> None:
    """Without --user the image's own user, 1000, runs; the runs folder must be its."""
    in_docker.runs.mkdir()
    for folder in (in_docker.folder, *in_docker.folder.parents[:3]):
        folder.chmod(0o755)
    refused = plain_run(in_docker, "train.py", user="")
    if os.getuid() != 1000:
        assert refused.status == 2
        assert refused.complaint == (
            '/runs may not be written to by user 1000; add --user "$(id -u):$(id -g)" to docker run'
        )
        os.chown(in_docker.runs, 1000, 1000)
    assert plain_run(in_docker, "train.py", user="").status == 0


def test_plain_docker_run_runs_the_code_that_was_hashed(in_docker: Project) -> None:
    """What is in no code tree cannot be read, and compiled files decide nothing."""
    in_docker.runs.mkdir()
    (in_docker.folder / ".hidden").write_text("secret")
    (in_docker.folder / "notes.md").write_text("left out")
    (in_docker.folder / "kept.md").write_text("kept")
    (in_docker.folder / "helper.py").write_text("VALUE = 'the source'\n")
    wrong = in_docker.folder / "wrong.py"
    wrong.write_text("VALUE = 'a stale compiled file'\n")
    compile_to = (
        "import py_compile; py_compile.compile('wrong.py', '__pycache__/helper.cpython-313.pyc', 'helper.py',"
        " invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)"
    )
    _python(in_docker, compile_to)
    wrong.unlink()
    assert b"a stale compiled file" in (in_docker.folder / "__pycache__" / "helper.cpython-313.pyc").read_bytes()
    # Python itself, in the same image, takes the compiled file at its word.
    fooled = _python(in_docker, "import sys; sys.path.insert(0, '/work'); import helper; print(helper.VALUE)")
    assert fooled == "a stale compiled file\n"
    in_docker.write(
        "import pathlib, helper\n"
        "print('helper', helper.VALUE)\nhere = pathlib.Path(__file__).parent\n"
        "print('cwd', pathlib.Path.cwd() == here)\n"
        "print('seen', sorted(path.name for path in here.iterdir()))\n"
    )
    done = plain_run(in_docker, "train.py", "--exclude", "notes.md")
    assert done.status == 0, done.err
    assert done.line("helper") == "the source"
    assert done.line("cwd") == "True"
    assert done.line("seen") == "['helper.py', 'kept.md', 'train.py']"


def _python(project: Project, program: str) -> str:
    """What the image's Python prints for a program, in the project's folder."""
    command = ["docker", "run", "--rm", "--user", f"{os.getuid()}:{os.getgid()}", "-v", f"{project.folder}:/work"]
    command += ["--entrypoint", "python", "samebits:cpu", "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_plain_docker_run_uses_what_is_mounted(in_docker: Project) -> None:
    """A samebits.toml beside the script speaks of the host's folders."""
    in_docker.runs.mkdir()
    (in_docker.folder / "samebits.toml").write_text('data = "other"\nruns = "elsewhere"\nseed = 9\n')
    (in_docker.folder / "other").mkdir()
    (in_docker.folder / "other" / "wrong.csv").write_text("1\n")
    in_docker.write("import os\nprint('data', os.environ['SAMEBITS_DATA'], os.listdir(os.environ['SAMEBITS_DATA']))\n")
    done = plain_run(in_docker, "train.py")
    assert done.status == 0, done.err
    assert done.line("data") == "/data ['numbers.csv']"
    assert done.run.parent == Path("/runs")
    record = in_docker.only_run()
    assert record.recipe.seed == 9
    assert (in_docker.runs / record.id / "data.jsonl").read_text().count("numbers.csv") == 1
    assert not (in_docker.folder / "elsewhere").exists()


def test_a_keras_json_that_says_otherwise(in_docker: Project) -> None:
    in_docker.runs.mkdir()
    (in_docker.data / "keras.json").write_text('{"floatx": "float64", "backend": "tensorflow"}')
    done = plain_run(in_docker, "train.py", options=("-e", "KERAS_HOME=/data"))
    assert done.status == 2
    assert done.complaint.startswith("Keras floatx was set to float32 but reads back as float64")
    record = in_docker.only_run()
    assert (record.outcome.state, record.outcome.message) == ("failed", done.complaint)
    assert record.result is None


@pytest.mark.parametrize(
    ("words", "options", "complaint"),
    [
        (
            ["train.py"],
            ["-e", "ONEDNN_MAX_CPU_ISA=SSE41"],
            (
                "the environment sets ONEDNN_MAX_CPU_ISA=SSE41, but the native profile needs ONEDNN_MAX_CPU_ISA=DEFAULT"
                " (use the best instructions of the CPU); remove it"
            ),
        ),
        (
            ["train.py"],
            ["-e", "XLA_FLAGS=--xla_cpu_enable_fast_math=true"],
            (
                "the environment sets XLA_FLAGS=--xla_cpu_enable_fast_math=true, which may change bits and is part of"
                " no recipe; remove it, or set it in the script"
            ),
        ),
        (["none.py"], [], "the script none.py does not exist; name a Python file"),
        (["train.py", "--seed", "x"], [], "argument --seed: invalid int value: 'x'; see 'samebits --help'"),
        (
            ["train.py"],
            ["-e", "TF_ENABLE_ONEDNN_OPTS=0"],
            (
                "the environment sets TF_ENABLE_ONEDNN_OPTS=0, but the native profile needs TF_ENABLE_ONEDNN_OPTS=1"
                " (its default depends on the CPU and changes bits); remove it"
            ),
        ),
        (
            ["train.py"],
            ["-e", "PYTHONHASHSEED=5"],
            (
                "the environment sets PYTHONHASHSEED=5, but the native profile needs PYTHONHASHSEED=0"
                " (it decides hash() and the order of sets); remove it"
            ),
        ),
    ],
)
def test_plain_docker_run_with_bad_input(
    in_docker: Project, words: list[str], options: list[str], complaint: str
) -> None:
    in_docker.runs.mkdir()
    done = plain_run(in_docker, *words, options=tuple(options))
    assert done.status == 2
    assert done.complaint == complaint


def test_plain_docker_run_stops(in_docker: Project) -> None:
    in_docker.runs.mkdir()
    in_docker.write("import time\nprint('ready', flush=True)\nwhile True: time.sleep(0.05)\n")
    command = ["docker", "run", "--name", "samebits-test-stop", "--rm", "-v", f"{in_docker.folder}:/work:ro"]
    command += ["--user", f"{os.getuid()}:{os.getgid()}", "-v", f"{in_docker.runs}:/runs", "samebits:cpu", "train.py"]
    with started(command) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        subprocess.run(["docker", "stop", "samebits-test-stop"], check=True, capture_output=True)
        process.communicate()
        assert process.returncode == 143
    assert in_docker.only_run().outcome.state == "interrupted"


@pytest.fixture
def other_image() -> Iterator[str]:
    """An image of the right name's kind and the wrong lock."""
    name = "samebits-test:other"
    text = "FROM samebits:cpu\nLABEL samebits.lock=sha256:" + "0" * 64 + "\n"
    subprocess.run(
        ["docker", "buildx", "build", "--load", "--provenance=false", "-t", name, "-"],
        input=text,
        text=True,
        check=True,
        capture_output=True,
    )
    yield name
    subprocess.run(["docker", "rmi", name], check=True, capture_output=True)


def test_an_image_from_another_lock(in_docker: Project, other_image: str) -> None:
    done = in_docker.train("--image", other_image)
    assert done.status == 2
    assert done.complaint == (
        f"the image {other_image} was built from another lock (sha256:{'0' * 64}; here it is {CPU.lock_digest});"
        " rebuild it with `samebits build`"
    )


def test_a_missing_image(in_docker: Project) -> None:
    done = in_docker.train("--image", "samebits:none")
    assert done.status == 2
    assert done.complaint == "the engine has no image samebits:none; build it with `samebits build`"


def test_the_engine_refuses_gpus() -> None:
    """Where NVML sees a GPU and the engine has no NVIDIA runtime, the engine's own refusal is one line."""
    request = ContainerRequest(
        image="samebits:cpu", command=("--run", "/runs/x"), environment={}, mounts=(), user="0:0", gpus="all"
    )
    with pytest.raises(
        EngineError, match=r"^the engine offers no GPU: the engine has no NVIDIA container toolkit; install"
    ):
        run_container(Engine(), request)


@pytest.mark.parametrize(("failures", "status"), [(1, 2), (3, None)])
def test_a_start_that_the_runtime_bungled(
    failures: int, status: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine's answer is made up, as nobody can call it forth; the containers are real."""
    engine = Engine()
    original, left = engine._client.api.start, [None] * failures

    def start(identifier: str) -> None:
        if left:
            left.pop()
            raise APIError("500", explanation="runc create failed: read init-p: connection reset by peer: unknown")
        original(identifier)

    monkeypatch.setattr(engine._client.api, "start", start)
    request = ContainerRequest(image="samebits:cpu", command=("--run", "/none"), environment={}, mounts=(), user="0:0")
    if status is None:
        with pytest.raises(EngineError, match="refused: runc create failed"):
            run_container(engine, request)
    else:
        assert run_container(engine, request) == status
    assert capsys.readouterr().err.count("starting the container again") == min(failures, 2)


def test_the_image_holds_what_it_says() -> None:
    inspected = json.loads(
        subprocess.run(["docker", "image", "inspect", "samebits:cpu"], capture_output=True, check=True).stdout
    )[0]["Config"]
    variables = dict(item.split("=", 1) for item in inspected["Env"])
    assert {item.name: variables[item.name] for item in FIXED_SETTINGS} == {
        item.name: item.value for item in FIXED_SETTINGS
    }
    assert inspected["User"] == "1000:1000"
    assert inspected["Labels"]["samebits.lock"] == str(CPU.lock_digest)
    assert not [name for name in variables if "proxy" in name.lower() or "CERT" in name or "INDEX" in name]
    program = (
        "import importlib.metadata as m; print(sorted(d.metadata['Name'].lower().replace('_', '-') for d in"
        " m.distributions())); import pathlib; print(list(pathlib.Path('/opt/samebits/source').rglob('host')));"
        " import samebits.runner; print(sorted(p.name for p in pathlib.Path('/opt/samebits').iterdir()))"
    )
    done = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "python", "samebits:cpu", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    names, hosts, top = done.stdout.splitlines()
    lock = (ROOT / "requirements.lock").read_text()
    assert names == str(sorted(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE)))
    assert hosts == "[]"
    assert top == "['recipe', 'venv']"


def test_a_changed_script_builds_nothing(in_docker: Project) -> None:
    in_docker.write("print('changed')\n")
    done = subprocess.run(
        [*in_docker.command()[:1], "build"], capture_output=True, text=True, cwd=in_docker.folder, check=False
    )
    assert (done.returncode, done.stderr) == (0, "samebits: samebits:cpu is up to date\n")
