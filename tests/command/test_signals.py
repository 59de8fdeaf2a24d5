"""Whatever ends a run, the record says so and nothing is left running."""

import os
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from samebits.core.digest import Digest
from samebits.core.environment import Environment
from samebits.core.ledger import Ledger
from samebits.core.recipe import ImageIdentity
from samebits.core.record import Outcome, Record, read_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import RunSetup, plan_run, publish
from samebits.host.image.build_context import staged_context
from samebits.host.launch.kept_run import adopt
from samebits.host.launch.venv import locked_python
from samebits.runner.session import Session
from support.command import Project, call
from support.lanes import long_tail
from support.machine import containers, started

pytestmark = pytest.mark.cold

WAITING = "import os, time\nprint('ready', os.getpid(), flush=True)\nwhile True: time.sleep(0.05)\n"
STUBBORN = WAITING.replace(
    "while True: time.sleep(0.05)", "while True:\n    try: time.sleep(9)\n    except BaseException: pass"
)


@contextmanager
def training(project: Project, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`samebits train`, once its script runs, in a process group of its own."""
    options = {"cwd": project.folder, "env": {**os.environ, **environment}, "start_new_session": True}
    with started(project.command(), **options) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready"), line + (process.stderr.read() if process.stderr else "")
        yield process


def _run(project: Project) -> Record:
    """The one run, as it reads."""
    (path,) = project.runs.glob("*/record.json")
    return RunDir(path.parent).read()


def _gone(project: Project, before: list[str], seconds: float = 120) -> bool:
    """Whether the training has ended: no container of it, or no process that holds the run."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        left = containers() if project.runtime == "docker" else _holders(project)
        if set(left) <= set(before):  # one of those before may go in between
            return True
        time.sleep(0.2)
    return False


def _holders(project: Project) -> list[str]:
    """Processes whose command line names the project's runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(project.runs).encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def _before(project: Project) -> list[str]:
    return containers() if project.runtime == "docker" else []


@pytest.mark.parametrize(
    ("number", "status", "message"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_stopped(each_runtime: Project, number: int, status: int, message: str) -> None:
    each_runtime.write(WAITING)
    before = _before(each_runtime)
    with training(each_runtime) as process:
        process.send_signal(number)
        assert process.wait(150) == status
    record = _run(each_runtime)
    assert record.finalized
    assert record.outcome.state == "interrupted"
    assert (record.outcome.message or "").startswith(message)
    assert _gone(each_runtime, before, 60)


@pytest.mark.slow
def test_a_sigterm_that_comes_twice_as_from_timeout(project: Project) -> None:
    """The script takes a second to end, in which another signal would kill it."""
    project.write(f"try:\n    {WAITING.replace(chr(10), chr(10) + '    ')}\nfinally:\n    time.sleep(1)\n")
    with training(project) as process:
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        assert process.wait(150) == 143
    assert (_run(project).outcome.message or "").startswith("SIGTERM")


def test_a_script_that_catches_the_interrupt(project: Project) -> None:
    """It ends well, but not with the result of its recipe."""
    project.write(
        f"try:\n    {WAITING.replace(chr(10), chr(10) + '    ')}\nexcept KeyboardInterrupt:\n    print('saving')\n"
    )
    with training(project) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(150) == 130
    assert _run(project).outcome.state == "interrupted"
    assert _run(project).result is None


def test_a_script_that_will_not_stop(each_runtime: Project) -> None:
    each_runtime.write(STUBBORN)
    before = _before(each_runtime)
    with training(each_runtime) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 130
    record = _run(each_runtime)
    assert record.finalized
    assert record.outcome.message == "stopped before it could finalize its record"
    assert _gone(each_runtime, before, 60)


def test_kill_9_of_the_launcher(each_runtime: Project) -> None:
    each_runtime.write(WAITING)
    before = _before(each_runtime)
    with training(each_runtime) as process:
        assert _run(each_runtime).outcome.state == "running"
        listed = call("list", "--json", folder=each_runtime.folder)
        assert '"outcome": "running"' in listed.out
        process.kill()
    assert _gone(each_runtime, before)
    record = _run(each_runtime)
    assert record.outcome.state == "interrupted"
    (path,) = each_runtime.runs.glob("*/record.json")
    # A container cannot write the run's record: a command that needs the run takes over what is there.
    assert RunDir(path.parent).staging.exists() == (each_runtime.runtime == "docker")
    record = adopt(RunDir(path.parent), read_record(path))
    assert record.finalized
    assert record.outcome.message == "SIGTERM, or the launcher ended"
    assert not RunDir(path.parent).staging.exists()


HOLDING = "import re\nprint('ready', flush=True)\nre.match(r'(a+)+$', 'a' * 60 + 'b')\n"


def test_kill_9_of_the_launcher_while_the_script_lets_nothing_else_run(each_runtime: Project) -> None:
    """The match goes on for years and holds the interpreter's lock: no thread or handler of ours gets a turn."""
    each_runtime.write(HOLDING)
    before = _before(each_runtime)
    with training(each_runtime) as process:
        process.kill()
    assert _gone(each_runtime, before, 120)
    deadline = time.monotonic() + 60  # the kernel lets go of a killed process's locks in its own time
    while _run(each_runtime).outcome.state == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _run(each_runtime).outcome.state == "interrupted"
    assert _run(each_runtime).result is None


def test_a_reader_that_goes_away(each_runtime: Project) -> None:
    """`samebits train … | head -1` ends the showing, not the training."""
    each_runtime.write(
        "import os, sys, time\nprint('first', flush=True)\ntime.sleep(1)\n"
        "for number in range(20_000): print('line', number, 'x' * 50, flush=number % 100 == 0)\n"
        "os.write(1, b'from below\\n')\nprint('last', flush=True)\n"
    )
    command = f"set +o pipefail; {shlex.join(each_runtime.command())} | head -1; echo statuses ${{PIPESTATUS[*]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=each_runtime.folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.stdout == "first\nstatuses 0 0\n", done.stderr
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    (path,) = each_runtime.runs.glob("*/record.json")
    record = read_record(path)
    assert (record.outcome.state, record.outcome.exit_status) == ("finished", 0)
    log = (path.parent / "log.txt").read_text().splitlines()
    log = log[log.index("first") :]  # before it stands what TensorFlow says when it is imported
    assert [line for line in log if not line.startswith("line ")] == ["first", "from below", "last"]
    assert len(log) == 20_003


@pytest.mark.parametrize("seconds", long_tail([0.0, 0.1, 0.3, 0.6, 1.0], keep=[0.0, 0.3, 1.0]))
def test_ctrl_c_at_the_start(each_runtime: Project, seconds: float) -> None:
    each_runtime.write(WAITING)
    before = _before(each_runtime)
    with started(each_runtime.command(), cwd=each_runtime.folder, start_new_session=True) as process:
        _wait_for_handlers(process.pid)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, complaint = process.communicate(timeout=120)
    _check_interrupted(each_runtime, process.returncode, complaint)
    assert _gone(each_runtime, before, 60)


def _wait_for_handlers(process: int) -> None:
    """Until the command handles signals; before that, Python alone is started."""
    mask = 1 << (signal.SIGTERM - 1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        caught = Path(f"/proc/{process}/status").read_text().partition("SigCgt:")[2].split()[0]
        if int(caught, 16) & mask:
            return
        time.sleep(0.002)
    raise AssertionError("the command never handles SIGTERM")


def _check_interrupted(project: Project, status: int, complaint: str) -> None:
    """The command ended by Ctrl-C; its run, if there is one, says so."""
    assert status == 130, complaint
    assert "Traceback" not in complaint, complaint
    for path in project.runs.glob("*/record.json"):
        record = read_record(path)
        assert (record.finalized, record.outcome.state) == (True, "interrupted")
        assert RunDir(path.parent).read() == record
    assert len(list(project.runs.glob("*/"))) <= 1


# Ctrl-C comes in a destructor, whose exceptions Python drops, while a module is imported.
_LOST = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "samebits.host.launch.train":
            sys.meta_path.remove(self)
            Dropped()
class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100): pass
sys.unraisablehook = lambda _: None
sys.meta_path.insert(0, Finder())
"""


def test_ctrl_c_that_is_lost_in_a_destructor(each_runtime: Project) -> None:
    (each_runtime.folder.parent / "sitecustomize.py").write_text(_LOST)
    each_runtime.write(WAITING)
    environment = {**os.environ, "PYTHONPATH": f"{each_runtime.folder.parent}:{os.environ.get('PYTHONPATH', '')}"}
    with started(each_runtime.command(), cwd=each_runtime.folder, env=environment, start_new_session=True) as process:
        _, complaint = process.communicate(timeout=120)
    _check_interrupted(each_runtime, process.returncode, complaint)


_INTERRUPTING = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "samebits.core.record":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.usefixtures("locked")
def test_ctrl_c_while_the_entrypoint_is_imported(tmp_path: Path) -> None:
    """The moment that test_ctrl_c_at_the_start only meets now and then."""
    (tmp_path / "sitecustomize.py").write_text(_INTERRUPTING)
    done = subprocess.run(
        [locked_python(), "-P", "-m", "samebits.runner", "--run", str(tmp_path)],
        env={"PYTHONPATH": f"{tmp_path}:{staged_context() / 'source'}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {130, -signal.SIGINT}
    assert done.stderr == ""


class _Importing(Session):
    """Ctrl-C comes while an extension module is imported, which says that it could not be imported."""

    def _attempt(self, ledger: Ledger) -> Record:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            raise ImportError("of an extension module") from None
        return super()._attempt(ledger)


def test_ctrl_c_that_a_library_turns_into_an_error(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    image = ImageIdentity(lock=Digest.of_bytes(b"lock"), source=Digest.of_bytes(b"source"))
    spec = RunConfig(script=project.script, runs=project.runs)
    folder, record = publish(plan_run(spec, RunSetup(image=image, environment=Environment(runtime="venv"))))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert _Importing(folder, record, None).run() == 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    outcome = _run(project).outcome
    assert "ImportError: of an extension module" in (outcome.traceback or "")
    assert replace(outcome, traceback=None) == Outcome(state="interrupted", message="Ctrl-C")
    assert capfd.readouterr().err == ""


def test_kill_9_of_everything(project: Project) -> None:
    """As after a power cut: the record was never sealed, and reads as interrupted all the same."""
    project.write(WAITING)
    with training(project) as process:
        for holder in _holders(project):
            with suppress(ProcessLookupError):  # a training ends with the process that watches it
                os.kill(int(holder), signal.SIGKILL)
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60  # the kernel lets go of a killed process's locks in its own time
    while _run(project).outcome.state == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _run(project).outcome.state == "interrupted"
    assert '"state": "running"' in next(project.runs.glob("*/record.json")).read_text()
    assert "interrupted" in call("list", folder=project.folder).out


def test_the_engine_goes_away(in_docker: Project, engine: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The launcher talks to the engine through a line that we cut."""
    in_docker.write(WAITING)
    before = containers()
    path = tmp_path_factory.mktemp("line") / "d.sock"
    with (
        _Line(engine.removeprefix("unix://"), path) as line,
        training(in_docker, DOCKER_HOST=f"unix://{path}") as process,
    ):
        line.cut()
        assert process.wait(450) == 2
        assert process.stderr is not None
        complaint = process.stderr.read()
    assert "samebits: the container engine went away" in complaint
    assert "Traceback" not in complaint
    assert _gone(in_docker, before)
    assert _run(in_docker).outcome.state in {"interrupted", "failed"}
    assert _run(in_docker).finalized


class _Line:
    """A Unix socket that passes everything on to the engine, until it is cut."""

    def __init__(self, engine: str, path: Path) -> None:
        self._engine = engine
        self._open: list[socket.socket] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._path = path

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        self._path.unlink(missing_ok=True)
        for end in [self._server, *self._open]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._engine)
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(one: socket.socket, other: socket.socket) -> None:
    try:
        while chunk := one.recv(65536):
            other.sendall(chunk)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass
