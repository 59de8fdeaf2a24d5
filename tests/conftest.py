"""What the tests share: the command as a user calls it, a small project to train, and the two runtimes."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from samebits.core.record import Record, read_record
from samebits.host import interrupts
from samebits.host.cache_dir import UNPACKED, cache_folder
from samebits.host.launch.venv import locked_python
from support import lanes, outside, schedule, warm_start
from support.command import EXAMPLE, ROOT, SCRIPTS, Done, Project, call
from support.images import OtherPin
from support.machine import containers
from support.progress import Progress


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lane", choices=lanes.LANES, default="test", help="how much to run: fast, test (default) or all")


def pytest_configure(config: pytest.Config) -> None:
    lanes.restore_interrupts()
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(config), "samebits-progress")
        folder = warm_start.begin()
        config.add_cleanup(partial(warm_start.end, folder))
        schedule.share(folder)


@pytest.hookimpl(tryfirst=True)  # before pytest itself selects by marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures that they use; leave out what is not in the lane."""
    for item in items:
        lanes.mark(item)
    left_out = [item for item in items if lanes.left_out(item, config.getoption("lane"), config.option.markexpr)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]
    if hasattr(config, "workerinput"):
        schedule.leave({item.nodeid: group for item in items if (group := lanes.group_of(item))})


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> schedule.Schedule:
    """Tests of one group run on one worker."""
    return schedule.Schedule(config, log)


@pytest.fixture(scope="session", autouse=True)
def _nothing_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        outside.close_cache(patch, tmp_path_factory.getbasetemp())
        outside.close_engine(patch, tmp_path_factory.getbasetemp())
        yield


@pytest.fixture(autouse=True)
def _outside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Again nothing where an earlier test asked for it."""
    marked = {name for name in ("locked", "engine", "gpu", "cold") if request.node.get_closest_marker(name)}
    for fixture in marked & {"locked", "engine"}:  # a marker that was set by hand asks for it, too
        request.getfixturevalue(fixture)
    with pytest.MonkeyPatch.context() as patch:
        if not marked & {"engine", "gpu"}:
            outside.close_engine(patch, tmp_path_factory.getbasetemp())
        if not marked & {"locked", "engine", "gpu"}:
            outside.close_cache(patch, tmp_path_factory.getbasetemp())
        elif marked != {"locked"}:
            outside.open_cache(patch)
        yield


@pytest.fixture(scope="session")
def locked() -> Iterator[None]:
    """The virtual environment of the lock, made on first use; trainings in it start warm but where a test is `cold`."""
    with pytest.MonkeyPatch.context() as patch:
        outside.open_cache(patch)
        warm_start.enter(patch)
        yield


@pytest.fixture
def samebits(tmp_path: Path) -> Callable[..., Done]:
    """Call samebits in an empty folder."""
    return lambda *arguments, **environment: call(*arguments, folder=tmp_path, **environment)


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """The host of the engine; container tests are left out where none answers, unless one is demanded."""
    with pytest.MonkeyPatch.context() as patch:
        outside.open_engine(patch)
        if not warm_start.entered():
            outside.open_cache(patch)
        _demand_engine()
        yield os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


def _demand_engine() -> None:
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        if os.environ.get("SAMEBITS_REQUIRE_ENGINE"):
            pytest.fail("an engine is demanded, and none answers")
        pytest.skip("no container engine answers")


@pytest.fixture(scope="session")
def other_pin(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherPin]:
    """The CPU image with another version of a small package, built once; about a minute."""
    from samebits.host.docker import Engine
    from samebits.host.image.build import build, plan_build
    from samebits.host.image.build_context import CPU, ImageKind, context_file

    assert engine
    pin = OtherPin(tag="samebits-test:other-pin", name="termcolor", old="3.3.0", new="3.2.0")
    wheel = "a10343879eba4da819353c55cb8049b0933890c2ebf9ad5d3ecd2bb32ea96ea6"
    theirs = rf"{pin.name}=={pin.old}(?: \\\n\s+--hash=\S+)+"
    ours = f"{pin.name}=={pin.new} --hash=sha256:{wheel}"
    text, changed = re.subn(theirs, ours, context_file(CPU.lock).read_text())
    assert changed == 1
    lock = tmp_path_factory.mktemp("other-pin") / "requirements.lock"
    lock.write_text(text)
    kind = ImageKind(device=CPU.device, dockerfile=CPU.dockerfile, lock=str(lock))
    build(Engine(), plan_build(Engine(), kind, tag=pin.tag))
    yield pin
    Engine().remove_image(pin.tag)


@pytest.fixture(scope="session")
def real_python(locked: None) -> Path:
    """The interpreter itself: emulators run no script that hands trainings to a warm process."""
    assert locked is None
    with pytest.MonkeyPatch.context() as patch:
        outside.open_cache(patch)
        return locked_python()


@pytest.fixture
def small_project(tmp_path: Path) -> Project:
    """A small project: a script and data. Nothing trains it here but what plays the runner's part."""
    shutil.copy(SCRIPTS / "fit.py", tmp_path / "train.py")
    (tmp_path / "data").mkdir()
    shutil.copy(SCRIPTS / "numbers.csv", tmp_path / "data" / "numbers.csv")
    return Project(tmp_path)


@pytest.fixture
def project(small_project: Project, locked: None) -> Project:
    """The small project, to train in the virtual environment."""
    assert locked is None
    return small_project


@pytest.fixture
def resumable(project: Project, request: pytest.FixtureRequest) -> Project:
    """The project with one of the scripts that are killed and resumed."""
    shutil.copy(SCRIPTS / "resume" / f"{request.param}.py", project.script)
    return project


@pytest.fixture(params=["venv", pytest.param("docker", marks=pytest.mark.engine)])
def each_runtime(request: pytest.FixtureRequest, project: Project) -> Project:
    """The project in either runtime."""
    if request.param == "docker":
        request.getfixturevalue("engine")
    project.runtime = request.param
    return project


@pytest.fixture
def in_docker(engine: str, small_project: Project) -> Project:
    """The project in a container."""
    assert engine
    small_project.runtime = "docker"
    return small_project


@pytest.fixture(scope="session")
def apptainer(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Apptainer on the path; its tests are left out where it cannot be fetched."""
    assert engine
    state, tool = tmp_path_factory.mktemp("apptainer"), str(ROOT / "tools" / "apptainer.sh")
    done = subprocess.run([tool, "up", state], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{state}/bin:{os.environ['PATH']}")
        before = set(cache_folder(UNPACKED).iterdir())
        yield
        # Each version of the source has an image of its own.
        for folder in set(cache_folder(UNPACKED).iterdir()) - before:
            shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([tool, "down", state], check=True)


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


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A command that a test runs in this process leaves handlers, and maybe a signal that a later one would obey."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interrupts.forget_pending()
