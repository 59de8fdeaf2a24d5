"""A run is dead only where that is proven: by its processes, by the machine's boot, by a lock that can be seen."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core import liveness as module
from samebits.core.jsonio import Fields
from samebits.core.ledger import lock_alive
from samebits.core.liveness import ALIVE, DEAD, HELD, UNKNOWN, Host, RunProcess, liveness


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    path.touch()
    return path


def here() -> Host:
    found = Host.this()
    assert found is not None
    return found


def gone() -> RunProcess:
    """A process of this machine that has ended."""
    return replace(here().launcher, start=here().launcher.start + 1)


DEAD_HERE = replace(here(), launcher=gone(), training=gone())
ELSEWHERE = replace(DEAD_HERE, machine="sha256:other", launcher=replace(gone(), boot="other"))
REBOOTED = replace(DEAD_HERE, machine="sha256:ours", launcher=replace(gone(), boot="before"), training=None)
IN_CONTAINER = replace(DEAD_HERE, training=replace(gone(), namespace=1))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has an id, wherever the test runs."""
    monkeypatch.setattr(module, "_machine", lambda: "sha256:ours")


@pytest.mark.parametrize(
    ("host", "free", "held"),
    [
        (here(), ALIVE, ALIVE),
        (DEAD_HERE, DEAD, HELD),
        (replace(DEAD_HERE, training=None), DEAD, ALIVE),
        (replace(DEAD_HERE, training=here().launcher), ALIVE, ALIVE),
        (IN_CONTAINER, DEAD, ALIVE),
        (REBOOTED, DEAD, HELD),
        (replace(REBOOTED, machine=None), UNKNOWN, ALIVE),
        (ELSEWHERE, UNKNOWN, ALIVE),
        (None, DEAD, ALIVE),
    ],
    ids=[
        "this process",
        "gone",
        "gone before it trained",
        "its training lives",
        "trained in a container",
        "rebooted",
        "no machine id",
        "another machine",
        "an old record",
    ],
)
def test_what_is_proven(host: Host | None, free: str, held: str, ledger: Path) -> None:
    assert liveness(host, ledger) == free
    lock = lock_alive(ledger)
    try:
        assert liveness(host, ledger) == held
    finally:
        os.close(lock)


def test_a_lock_that_another_kernel_may_hold(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system a free lock proves nothing, unless the launcher was seen to be gone."""
    monkeypatch.setattr(module, "_is_local", lambda _: False)
    unseen = replace(DEAD_HERE, launcher=replace(gone(), namespace=1))
    assert [liveness(host, ledger) for host in (None, unseen, DEAD_HERE)] == [UNKNOWN, UNKNOWN, DEAD]


def test_a_process_that_has_ended() -> None:
    code = "import sys; from samebits.core.liveness import *; print(RunProcess.this().to_dict()); sys.stdin.read()"
    command = [sys.executable, "-u", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        found = RunProcess.from_fields(Fields(eval(process.stdout.readline())))
        assert found.state(here().launcher) == ALIVE
        process.stdin.close()
        # Nobody has waited for it yet: it is a zombie.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert found.state(here().launcher) == "gone"
    assert found.state(here().launcher) == "gone"


def test_local_file_systems() -> None:
    assert not module._is_local(Path("/proc/self"))
    assert Host.from_fields(Fields(IN_CONTAINER.to_dict())) == IN_CONTAINER
