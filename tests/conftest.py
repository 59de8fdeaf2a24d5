"""What the tests share: the command as a user calls it, a small project to train, and the two runtimes."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from samebits.core.record import Record, read_record
from samebits.core.run_dir import RunFolder

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(__file__).parent / "scripts"
RESUMABLE = sorted(path.stem for path in (SCRIPTS / "resume").glob("*.py"))
EXAMPLE = Path(__file__).parent / "data" / "record-1.0.json"
COMMAND = (str(Path(sys.executable).with_name("samebits")),)


@pytest.hookimpl(tryfirst=True)  # before pytest itself selects by marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what needs a GPU, or emulated CPUs, to those who ask for it; what uses the engine is marked so."""
    for marker in ("gpu", "emulated"):
        if marker not in config.option.markexpr:
            needs = [item for item in items if item.get_closest_marker(marker)]
            config.hook.pytest_deselected(items=needs)
            items[:] = [item for item in items if item not in needs]
    for item in items:
        if "engine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished call."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of ours on stderr; fails where there is none, or more than one, or a traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("samebits: ")]
        assert "Traceback" not in self.err, self.err
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("samebits: ")

    @property
    def run(self) -> Path:
        """The run's folder, from the last lines."""
        return Path(self.line("run"))

    def line(self, name: str) -> str:
        """The value behind `name` in the last lines."""
        found = [line for line in self.out.splitlines() if line.startswith(f"{name} ")]
        assert found, self.out + self.err
        return found[-1].removeprefix(f"{name} ")


@dataclass
class Project:
    """A folder with a script and data, as a user has one."""

    folder: Path
    runtime: str = "venv"
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def script(self) -> Path:
        return self.folder / "train.py"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def command(self, *options: str) -> list[str]:
        return [*COMMAND, "train", "train.py", "--data", "data", "--runtime", self.runtime, *options]

    def train(self, *options: str, **environment: str) -> Done:
        """`samebits train train.py --data data …`."""
        return call(*self.command(*options)[1:], folder=self.folder, **environment)

    def write(self, text: str) -> None:
        """Replace the script."""
        self.script.write_text(text)

    def only_run(self) -> Record:
        """The record of the one run there is."""
        (path,) = self.runs.glob("*/record.json")
        return read_record(path)


def call(*arguments: str, folder: Path, **environment: str) -> Done:
    """Call samebits as a user would, in a folder."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture
def samebits(tmp_path: Path) -> Callable[..., Done]:
    """Call samebits in an empty folder."""
    return lambda *arguments, **environment: call(*arguments, folder=tmp_path, **environment)


@pytest.fixture(scope="session")
def engine() -> str:
    """The host of the engine; container tests are left out where none answers, unless one is demanded."""
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        if os.environ.get("SAMEBITS_REQUIRE_ENGINE"):
            pytest.fail("an engine is demanded, and none answers")
        pytest.skip("no container engine answers")
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


@dataclass(frozen=True, kw_only=True)
class OtherPin:
    """An image that differs from samebits:cpu in one pin of its lock."""

    tag: str
    name: str
    old: str
    new: str


@pytest.fixture(scope="session")
def other_pin(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherPin]:
    """The CPU image with another version of a small package, built once; about a minute."""
    from samebits.host.docker import Engine
    from samebits.host.image.build import build, plan_build
    from samebits.host.image.build_context import CPU, Kind, context_file

    assert engine
    pin = OtherPin(tag="samebits-test:other-pin", name="termcolor", old="3.3.0", new="3.2.0")
    wheel = "a10343879eba4da819353c55cb8049b0933890c2ebf9ad5d3ecd2bb32ea96ea6"
    theirs = rf"{pin.name}=={pin.old}(?: \\\n\s+--hash=\S+)+"
    ours = f"{pin.name}=={pin.new} --hash=sha256:{wheel}"
    text, changed = re.subn(theirs, ours, context_file(CPU.lock).read_text())
    assert changed == 1
    lock = tmp_path_factory.mktemp("other-pin") / "requirements.lock"
    lock.write_text(text)
    kind = Kind(device=CPU.device, dockerfile=CPU.dockerfile, lock=str(lock))
    build(Engine(), plan_build(Engine(), kind, tag=pin.tag))
    yield pin
    Engine().remove_image(pin.tag)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A small project that trains in the virtual environment."""
    shutil.copy(SCRIPTS / "fit.py", tmp_path / "train.py")
    (tmp_path / "data").mkdir()
    shutil.copy(SCRIPTS / "numbers.csv", tmp_path / "data" / "numbers.csv")
    return Project(tmp_path)


@pytest.fixture
def resumable(project: Project, request: pytest.FixtureRequest) -> Project:
    """The project with one of the scripts that are killed and resumed."""
    shutil.copy(SCRIPTS / "resume" / f"{request.param}.py", project.script)
    return project


def newest(project: Project) -> RunFolder:
    """The run that was begun last."""
    return RunFolder(max(project.runs.glob("2*/"), key=lambda path: path.stat().st_mtime_ns))


@pytest.fixture(params=["venv", pytest.param("docker", marks=pytest.mark.engine)])
def each_runtime(request: pytest.FixtureRequest, project: Project) -> Project:
    """The project in either runtime."""
    if request.param == "docker":
        request.getfixturevalue("engine")
    project.runtime = request.param
    return project


@pytest.fixture
def in_docker(engine: str, project: Project) -> Project:
    """The project in a container."""
    assert engine
    project.runtime = "docker"
    return project


def containers() -> list[str]:
    """The ids of all our containers, running or not."""
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", "label=samebits=run"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def load_json(text: str) -> Any:
    """JSON from a command's stdout."""
    return json.loads(text)


@pytest.fixture
def no_containers(engine: str) -> Iterator[None]:
    """No container of ours is left behind."""
    assert engine
    before = containers()
    yield
    assert containers() == before


@pytest.fixture
def example() -> Record:
    """The committed record: sealed, and never written again."""
    return read_record(EXAMPLE)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to read and write everything; as ourselves where we are not root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def cores(number: int) -> Iterator[None]:
    """On so many cores, if there are as many; what is started here inherits them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process whose stdout and stderr are read; whatever comes of the test, it does not outlive it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def busy() -> Iterator[None]:
    """Beside a process that never rests."""
    with started([sys.executable, "-c", "while True: pass"]):
        yield


def on_small_disk(code: str, folder: Path) -> list[str]:
    """The lines that Python code prints in `folder`, where a disk of 64 KiB is mounted for it alone."""
    mounted = 'mount -t tmpfs -o size=64k none "$0" && cd "$0"'
    namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*namespace, mounted, str(folder)], capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk may be mounted here")
    command = [*namespace, f'{mounted} && exec "$1" -c "$2"', str(folder), sys.executable, code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
