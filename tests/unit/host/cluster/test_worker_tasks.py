"""What the launchers of several workers leave for the run's process, and where."""

import json
from pathlib import Path

import pytest

from samebits.core.run_dir import RunDir
from samebits.host.cluster.worker_tasks import leave, seen_inside, write_hosts


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
    leave(inside.of_worker(1).failure, "gone")
    assert list(elsewhere.iterdir()) == []
    inside.workers.unlink()
    leave(inside.of_worker(1).failure, "gone")
    assert not inside.workers.exists()
    inside.workers.mkdir()
    leave(inside.of_worker(1).failure, "gone")
    assert inside.of_worker(1).failure.read_text() == "gone"
