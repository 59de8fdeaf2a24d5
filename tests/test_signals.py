"""Whatever ends a run, the record says so and nothing is left running."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from conftest import Project, call, containers
from samebits.record import Record
from samebits.runfolder import RunFolder

WAITING = "import os, time\nprint('ready', os.getpid(), flush=True)\nwhile True: time.sleep(0.05)\n"
STUBBORN = WAITING.replace(
    "while True: time.sleep(0.05)", "while True:\n    try: time.sleep(9)\n    except BaseException: pass"
)


@contextmanager
def started(project: Project, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`samebits train`, once its script runs."""
    with subprocess.Popen(
        project.command(),
        cwd=project.folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line.startswith("ready"), line + (process.stderr.read() if process.stderr else "")
            yield process
        finally:
            process.kill()


def _run(project: Project) -> Record:
    """The one run, as it reads."""
    (path,) = project.runs.glob("*/record.json")
    return RunFolder(path.parent).read()


def _gone(project: Project, before: list[str], seconds: float = 20) -> bool:
    """Whether the training has ended: no container of it, or no process that holds the run."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        left = containers() if project.runtime == "docker" else _holders(project)
        if left == before:
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
    with started(each_runtime) as process:
        process.send_signal(number)
        assert process.wait(30) == status
    record = _run(each_runtime)
    assert record.sealed
    assert record.outcome.state == "interrupted"
    assert (record.outcome.message or "").startswith(message)
    assert _gone(each_runtime, before, 5)


def test_a_script_that_catches_the_interrupt(project: Project) -> None:
    """It ends well, but not with the result of its recipe."""
    project.write(
        f"try:\n    {WAITING.replace(chr(10), chr(10) + '    ')}\nexcept KeyboardInterrupt:\n    print('saving')\n"
    )
    with started(project) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert _run(project).outcome.state == "interrupted"
    assert _run(project).result is None


def test_a_script_that_will_not_stop(each_runtime: Project) -> None:
    each_runtime.write(STUBBORN)
    before = _before(each_runtime)
    with started(each_runtime) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    record = _run(each_runtime)
    assert record.sealed
    assert record.outcome.message == "stopped before it could seal its own record"
    assert _gone(each_runtime, before, 5)


def test_kill_9_of_the_launcher(each_runtime: Project) -> None:
    each_runtime.write(WAITING)
    before = _before(each_runtime)
    with started(each_runtime) as process:
        assert _run(each_runtime).outcome.state == "running"
        listed = call("list", "--json", folder=each_runtime.folder)
        assert '"outcome": "running"' in listed.out
        process.kill()
    assert _gone(each_runtime, before)
    record = _run(each_runtime)
    assert record.sealed
    assert record.outcome.state == "interrupted"
    assert record.outcome.message == "SIGTERM, or the launcher ended"


def test_kill_9_of_everything(project: Project) -> None:
    """As after a power cut: the record was never sealed, and reads as interrupted all the same."""
    project.write(WAITING)
    with started(project) as process:
        for holder in _holders(project):
            os.kill(int(holder), signal.SIGKILL)
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10  # the kernel lets go of a killed process's locks in its own time
    while _run(project).outcome.state == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _run(project).outcome.state == "interrupted"
    assert '"state": "running"' in next(project.runs.glob("*/record.json")).read_text()
    assert "interrupted" in call("list", folder=project.folder).out


@pytest.mark.engine
def test_the_engine_goes_away(in_docker: Project, engine: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The launcher talks to the engine through a line that we cut."""
    in_docker.write(WAITING)
    before = containers()
    path = tmp_path_factory.mktemp("line") / "d.sock"
    with (
        _Line(engine.removeprefix("unix://"), path) as line,
        started(in_docker, DOCKER_HOST=f"unix://{path}") as process,
    ):
        line.cut()
        assert process.wait(90) == 2
        assert process.stderr is not None
        complaint = process.stderr.read()
    assert "samebits: the container engine went away" in complaint
    assert "Traceback" not in complaint
    assert _gone(in_docker, before)
    assert _run(in_docker).outcome.state in {"interrupted", "failed"}
    assert _run(in_docker).sealed


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
