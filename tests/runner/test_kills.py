"""Runs that are killed at random moments and resumed reach the bits of the uninterrupted run."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from samebits.core.record import FINISHED
from samebits.core.run_dir import RunDir
from support.command import RESUMABLE, Project, call, newest
from support.lanes import long_tail
from support.machine import started

KILLS = 4
"""Kills for each script, up to three in a row."""

pytestmark = [pytest.mark.usefixtures("locked"), pytest.mark.cold]


def lines_of(run: RunDir) -> int:
    return run.ledger.read_bytes().count(b"\n") if run.ledger.exists() else 0


@dataclass
class Moment:
    """When to kill: once the ledger has `lines` lines, or a checkpoint is being written, plus `after` seconds."""

    lines: int
    writing: bool
    after: float

    def has_come(self, run: RunDir) -> bool:
        if not (run.record.exists() and run.image.exists()):
            return False
        if self.writing:
            store = run.checkpoints
            return any(name.startswith(".") for folder in (store.folder, store.objects) for name in names_in(folder))
        return lines_of(run) >= self.lines


def names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def kill(project: Project, command: list[str], moment: Moment) -> bool:
    """Start, and send SIGKILL to launcher and training at a moment; returns whether the run was unfinished then."""
    before = set(project.runs.glob("2*/"))
    with started(command, cwd=project.folder, start_new_session=True) as process:
        while process.poll() is None:
            found = set(project.runs.glob("2*/")) - before
            if found and moment.has_come(RunDir(found.pop())):
                time.sleep(moment.after)
                for number in (*training_in(project), process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)
                process.communicate()
                return newest(project).read().outcome.state != FINISHED
            time.sleep(0.001)
        complaint = process.stderr.read() if process.stderr else ""
        assert process.returncode == 0, complaint
    return False


def training_in(project: Project) -> list[int]:
    """The processes whose command line names the project's runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(project.runs).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def commands(project: Project, train: list[str]) -> Iterator[list[str]]:
    """The command to train, then commands to resume the newest run."""
    yield train
    while True:
        yield [*train[:1], "resume", newest(project).path.name]


def kill_and_resume(project: Project, train: list[str], generator: random.Random, lines: int) -> int:
    """Kill up to three times in a row, then let the run finish; returns the number of kills."""
    for kills, command in enumerate(commands(project, train)):
        if kills == 3:
            done = call(*command[1:], folder=project.folder)
            assert done.status == 0, done.err
            return kills
        moment = Moment(
            lines=generator.randrange(lines),
            writing=generator.random() < 0.3,
            after=generator.choice((0, generator.random() * 0.2)),
        )
        if not kill(project, command, moment):
            return kills
    raise AssertionError


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("resumable", long_tail(RESUMABLE, keep=("loop",)), indirect=True)
def test_killed_and_resumed(resumable: Project, request: pytest.FixtureRequest) -> None:
    generator = random.Random(request.node.name)
    done = resumable.train("--keep", "none")
    assert done.status == 0, done.err
    uninterrupted = newest(resumable)
    expected = uninterrupted.read()
    lines = lines_of(uninterrupted)
    kills = 0
    while kills < KILLS:
        kills += kill_and_resume(resumable, resumable.command("--checkpoint-every", "3"), generator, lines)
        resumed = newest(resumable)
        found = resumed.read()
        assert found.outcome.state == FINISHED
        assert found.result == expected.result
        assert resumed.ledger.read_bytes() == uninterrupted.ledger.read_bytes()
