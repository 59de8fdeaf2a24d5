"""What the launchers of several workers leave for the run's process, and where."""

import json
import threading
import time
from pathlib import Path

import pytest

from samebits.core.run_dir import RunDir
from samebits.host.cluster import worker_tasks
from samebits.host.cluster.worker_tasks import leave, seen_inside, write_hosts
from samebits.host.subprocesses import beside


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run whose container has a folder of its own."""
    found = RunDir(tmp_path / "run")
    found.staging.mkdir(parents=True)
    return found


def test_the_container_learns_who_the_others_are(run: RunDir) -> None:
    write_hosts(run, ["a", "b"])
    inside = seen_inside(run)
    assert inside.path == run.staging
    for seen in (run, inside):
        assert json.loads(seen.worker_hosts.read_text()) == ["a", "b"]
    # Where the launcher's socket is mounted; without a container there is none.
    assert inside.tunnel.is_dir()
    assert not run.tunnel.exists()


def test_without_a_container(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_hosts(run, ["a", "b"])
    assert seen_inside(run) == run
    assert not run.tunnel.exists()


def test_a_link_leads_nowhere(run: RunDir, tmp_path: Path) -> None:
    """The script may put one where the launcher writes."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    inside = seen_inside(run)
    inside.workers.symlink_to(elsewhere)
    leave(inside.of_worker(1).lost, "gone")
    assert list(elsewhere.iterdir()) == []
    inside.workers.unlink()
    leave(inside.of_worker(1).lost, "gone")
    assert not inside.workers.exists()
    inside.workers.mkdir()
    leave(inside.of_worker(1).lost, "gone")
    assert inside.of_worker(1).lost.read_text() == "gone"


@pytest.mark.parametrize("said", [True, False])
def test_a_task_that_fails(run: RunDir, monkeypatch: pytest.MonkeyPatch, said: bool) -> None:
    """Its own reason counts, if there is one."""
    monkeypatch.setattr(worker_tasks, "REASON_SECONDS", 0.3)
    monkeypatch.setattr(worker_tasks, "POLL_SECONDS", 0.01)
    run.workers.mkdir()
    worker = run.of_worker(1)
    if said:
        threading.Timer(0.1, lambda: leave(worker.failure, "no image")).start()
    worker_tasks._note_loss(worker, "n2", 137)
    assert worker.failure.exists() == said
    assert (worker.lost.read_text() if worker.lost.exists() else "") == (
        "" if said else "its task on n2 ended with status 137"
    )


def test_a_node_that_prepares_is_heard_of(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_tasks, "SIGN_SECONDS", 0.02)
    run.workers.mkdir()
    path, seen = run.of_worker(1).preparing, set[str]()
    with worker_tasks._heard_of(path):
        deadline = time.monotonic() + 5
        while len(seen) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.005)
            seen |= {path.read_text()} if path.exists() else set()
    last = path.read_text()
    time.sleep(0.1)
    assert path.read_text() == last


def test_a_program_beside_another_is_watched() -> None:
    failed: list[int] = []
    with beside(["sh", "-c", "exit 3"], 5, failed.append):
        deadline = time.monotonic() + 5
        while not failed:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with beside(["true"], 5, failed.append):
        pass
    assert failed == [3]
