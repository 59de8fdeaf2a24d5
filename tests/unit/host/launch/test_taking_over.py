"""What a container left is taken over again after a full disk, and is never stranded by a final record."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.environment import Environment
from samebits.core.errors import RecordError, StorageError
from samebits.core.ledger import Ledger
from samebits.core.recipe import ImageIdentity
from samebits.core.record import read_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import PlannedRun, RunSetup, plan_run
from samebits.host.launch import kept_run, ledger_keeper
from samebits.host.launch.kept_run import adopt
from samebits.host.launch.ledger_keeper import Follower, LedgerKeeper
from samebits.host.launch.train import execute

RECIPE = Digest.of_bytes(b"recipe")
IMAGE = ImageIdentity(lock=RECIPE, source=RECIPE)


class Disk:
    """Counts writes to the ledger; a full one takes a few bytes more, and then refuses."""

    def __init__(self) -> None:
        self.full = False
        self.sizes: list[int] = []

    def write(self, descriptor: int, content: bytes | bytearray) -> int:
        if self.full and len(content) <= 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.sizes.append(len(content))
        return os.write(descriptor, content[: len(content) - 10] if self.full else content)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    names = {name: getattr(os, name) for name in dir(os)} | {"write": found.write}
    monkeypatch.setattr(ledger_keeper, "os", SimpleNamespace(**names))
    return found


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[LedgerKeeper]:
    (tmp_path / "inside").mkdir()
    with Ledger(tmp_path / "inside" / "ledger.jsonl", RECIPE) as ledger:
        for epoch in range(20):
            ledger.append({"event": "epoch", "fit": 0, "epoch": epoch, "metrics": {}, "tensors": {}})
    (tmp_path / "ledger.jsonl").touch()
    keeper = LedgerKeeper(tmp_path / "inside" / "ledger.jsonl", tmp_path / "ledger.jsonl", RECIPE)
    yield keeper
    keeper.close()


def test_lines_that_a_full_disk_refused_are_written_later(tmp_path: Path, keeper: LedgerKeeper, disk: Disk) -> None:
    disk.full = True
    for _ in range(2):
        with pytest.raises(StorageError, match="the disk is full"):
            keeper.take()
    disk.full = False
    keeper.take()
    assert (tmp_path / "ledger.jsonl").read_bytes() == (tmp_path / "inside" / "ledger.jsonl").read_bytes()
    assert keeper.end.lines == 20


def test_lines_are_written_block_by_block(
    keeper: LedgerKeeper, disk: Disk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A ledger may be larger than the memory."""
    monkeypatch.setattr(ledger_keeper, "_READ_BYTES", 1000)
    keeper.take()
    assert max(disk.sizes) <= 2000
    assert (tmp_path / "ledger.jsonl").read_bytes() == (tmp_path / "inside" / "ledger.jsonl").read_bytes()


def test_following_goes_on_after_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ledger_keeper, "POLL_SECONDS", 0.001)
    steps: list[int] = []

    def step() -> None:
        steps.append(0)
        if len(steps) == 3:
            follower._over.set()
        raise StorageError("the disk is full")

    follower = Follower(step)
    follower._thread.join(10)
    follower.stop()
    assert len(steps) == 3
    assert capsys.readouterr().err.count("the disk is full") == 1


def planned(folder: Path) -> PlannedRun:
    (folder / "code").mkdir()
    (folder / "code" / "train.py").write_text("pass\n")
    spec = RunConfig(script=folder / "code" / "train.py", runs=folder / "runs")
    return plan_run(spec, RunSetup(image=IMAGE, environment=Environment(runtime="docker")))


def test_a_run_that_cannot_be_taken_over_yet_keeps_an_open_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process of the container lives on: what it left is there for `resume`, which can still take it over."""
    monkeypatch.setattr(kept_run, "_WAIT_SECONDS", 0.1)
    left: list[Any] = []

    def run(folder: RunDir, *_: object) -> int:
        inside = RunDir(folder.staging)
        (inside.outputs / "notes.txt").write_text("notes")
        left.extend((folder, Ledger(inside.ledger, read_record(folder.record).recipe.digest)))
        left[1].__enter__()
        return 0

    runtime: Any = SimpleNamespace(isolated=True, prepare=lambda: None, run=run)
    with pytest.raises(RecordError, match="a process of the run still writes"):
        execute(planned(tmp_path), runtime)
    folder, ledger = left
    assert f"`samebits resume {folder.path.name}` takes it over" in capsys.readouterr().err
    assert not read_record(folder.record).finalized
    ledger.__exit__(None, None, None)
    adopt(folder, read_record(folder.record))
    assert (folder.outputs / "notes.txt").read_text() == "notes"
