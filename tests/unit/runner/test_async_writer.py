"""How often checkpoints are written, and that none is left out which the run keeps."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.checkpoint_store import Checkpoint, CheckpointStore, Position
from samebits.core.digest import Digest
from samebits.core.ledger import Ledger
from samebits.core.record import Record
from samebits.core.retention import RetentionPolicy
from samebits.core.run_dir import RunDir
from samebits.runner.checkpoint import async_writer
from samebits.runner.checkpoint.async_writer import AsyncWriter
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.process_state.library_state import LibraryState
from samebits.runner.checkpoint.process_state.random_streams import RandomStreams

CONTENT = b"c" * 8192


@pytest.fixture(autouse=True)
def _large_from_a_page_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_writer, "_LARGE_BYTES", 4096)


def written(folder: Path, content: bytes = CONTENT, *, delay: float = 0.0) -> AsyncWriter:
    """A writer that has written one checkpoint, which took so long on its thread."""
    writer = AsyncWriter(CheckpointStore(folder), RetentionPolicy(), lambda: time.sleep(delay))
    add(writer, 1, content)
    return writer


def add(writer: AsyncWriter, epoch: int, content: bytes) -> None:
    """Have a checkpoint written."""
    digest = Digest.of_bytes(content)
    position = Position(phase=0, epoch=epoch)
    one = Checkpoint(position=position, recipe=digest, lines=1, last=digest, state={}, objects=(str(digest),))
    writer.add(one, {str(digest): content}, time.monotonic())
    writer.wait()


def test_a_large_checkpoint_makes_the_next_one_early(tmp_path: Path) -> None:
    assert written(tmp_path, delay=0.05).is_early


def test_nothing_is_early_once_the_share_of_the_time_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_writer, "_SHARE", 0.5)
    writer = written(tmp_path, delay=0.05)
    assert writer.is_early
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 10)
    assert not writer.is_early


def leaves_out(folder: Path, example: Record, keep: str, epoch: int) -> bool:
    """Whether a run that has just written a large checkpoint leaves out the one after this epoch."""
    run = RunDir(folder)
    record = replace(example, retention=RetentionPolicy(keep=keep))
    with Ledger(run.ledger, record.recipe.digest) as ledger:
        manager = CheckpointManager(record, run, ledger, {}, lambda _: False, LibraryState(RandomStreams()))
        add(manager._writer, 1, CONTENT)
        return manager.can_leave_out(Position(phase=0, epoch=epoch))


@pytest.mark.parametrize(
    ("keep", "epoch", "left_out"), [("all", 2, False), ("every:2", 2, False), ("every:2", 3, True)]
)
def test_a_checkpoint_that_is_kept_is_never_left_out(
    tmp_path: Path, example: Record, keep: str, epoch: int, left_out: bool
) -> None:
    assert leaves_out(tmp_path, example, keep, epoch) == left_out


def test_the_first_small_checkpoints_are_never_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_writer, "_SHARE", 1e-6)
    writer = written(tmp_path, content=b"small", delay=0.05)
    for number in range(2, 8):
        assert not writer.is_early
        add(writer, number, b"small")
    assert not writer.is_early
    add(writer, 8, b"small")
    assert writer.is_early


@pytest.mark.parametrize("content", [b"small", CONTENT])
def test_only_a_large_one_that_waits_for_the_disk_takes_time_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(async_writer, "_SHARE", 0.25)
    monkeypatch.setattr(async_writer, "_FIRST", 1)
    assert written(tmp_path, content, delay=0.2).is_early == (content == CONTENT)


def test_while_a_large_one_is_written_the_next_is_early(tmp_path: Path) -> None:
    released: list[bool] = []

    def wait_for_release() -> None:
        while not released:
            time.sleep(0.01)

    writer = AsyncWriter(CheckpointStore(tmp_path), RetentionPolicy(), wait_for_release)
    digest = Digest.of_bytes(CONTENT)
    checkpoint = Checkpoint(
        position=Position(phase=0, epoch=2), recipe=digest, lines=1, last=digest, state={}, objects=(str(digest),)
    )
    # It was begun long ago: what it has taken so far does not count as all that it takes.
    writer.add(checkpoint, {str(digest): CONTENT}, time.monotonic() - 1)
    assert writer.is_early
    released.append(True)
    writer.wait()
