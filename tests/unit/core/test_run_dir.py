"""The folder of a run: a unique name, and a record whose state shows how the run ended."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.errors import RecordError, StorageError
from samebits.core.ledger import lock_alive
from samebits.core.record import RUNNING, STATES, Outcome, Record, read_record, write_record
from samebits.core.run_dir import MARKER, RunDir, claim, prepare_runs
from support.command import EXAMPLE
from support.machine import unprivileged


def test_names_within_the_folder() -> None:
    folder = RunDir(Path("runs/r"))
    assert RunDir(Path("runs/r")).checkpoints.folder == Path("runs/r/checkpoints")
    names = ["record", "ledger", "code", "code_manifest", "data_manifest", "outputs", "models", "log", "reserve"]
    assert [str(getattr(folder, name).relative_to("runs/r")) for name in names] == [
        "record.json",
        "ledger.jsonl",
        "code",
        "code.jsonl",
        "data.jsonl",
        "outputs",
        "models",
        "log.txt",
        ".reserve",
    ]


def test_checkpoints_that_a_killed_container_left(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r")
    assert run.checkpoints_now == run.checkpoints
    staged = RunDir(run.staging).checkpoints
    staged.folder.mkdir(parents=True)
    (staged.folder / "0000-000015.json").touch()
    assert [position.epoch for position in run.checkpoints_now.positions()] == [15]
    run.checkpoints.folder.mkdir()
    assert run.checkpoints_now == run.checkpoints, "they were taken over"
    run.checkpoints.folder.rmdir()
    staged.folder.rename(tmp_path / "elsewhere")
    staged.folder.symlink_to(tmp_path / "elsewhere")
    assert run.checkpoints_now == run.checkpoints


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    assert [claim(tmp_path, "r").path.name for _ in range(3)] == ["r", "r-2", "r-3"]
    (tmp_path / "s").touch()
    assert claim(tmp_path, "s").path.name == "s-2"
    assert sorted(os.listdir(tmp_path)) == ["r", "r-2", "r-3", "s", "s-2"]


def test_no_free_name(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"r-{number}").mkdir()
    (tmp_path / "r").mkdir()
    with pytest.raises(StorageError) as caught:
        claim(tmp_path, "r")
    assert str(caught.value) == f"{tmp_path} holds a thousand runs named r; choose another folder with --runs"


@pytest.mark.parametrize(
    ("runs", "reason"),
    [("file", "File exists"), ("file/runs", "Not a directory"), ("/proc/runs", "No such file or directory")],
)
def test_an_invalid_folder_of_runs(tmp_path: Path, runs: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        prepare_runs(tmp_path / runs)
    assert str(caught.value) == f"cannot write {tmp_path / runs}: {reason}; choose a folder that you may write to"


def test_a_read_only_folder_of_runs(open_folder: Path) -> None:
    message = "Permission denied; choose a folder that you may write to"
    with unprivileged(), pytest.raises(StorageError) as caught:
        prepare_runs(open_folder)
    assert str(caught.value) == f"cannot write {open_folder}: {message}"
    with unprivileged(), pytest.raises(StorageError) as caught:
        claim(open_folder, "r")
    assert str(caught.value) == f"cannot write {open_folder / 'r'}: {message}"


def test_a_folder_of_runs_is_marked(tmp_path: Path) -> None:
    for _ in range(2):
        prepare_runs(tmp_path / "deep" / "runs")
    assert os.listdir(tmp_path / "deep" / "runs") == [MARKER]


@pytest.fixture
def folder(tmp_path: Path, example: Record) -> RunDir:
    """A run whose record says that it is running."""
    folder = claim(tmp_path, "r")
    folder.create_inside()
    write_record(folder.record, replace(example, outcome=Outcome(state=RUNNING), result=None, ledger=None))
    return folder


def test_files_that_are_written_during_the_run(folder: RunDir) -> None:
    assert sorted(os.listdir(folder.path)) == [".reserve", "ledger.jsonl", "models", "outputs", "record.json"]
    assert folder.ledger.read_bytes() == b""
    assert folder.reserve.stat().st_blocks * 512 >= 2 << 20


def test_a_running_record_of_a_dead_run_is_interrupted(folder: RunDir) -> None:
    with open(lock_alive(folder.ledger), "rb"):
        assert folder.read().outcome == Outcome(state=RUNNING)
    assert folder.read().outcome == Outcome(
        state="interrupted", message="the run ended without finalizing its record (killed, or power was lost)"
    )
    folder.ledger.unlink()
    assert folder.read().outcome.state == "interrupted"


def test_a_finalized_record_is_read_unchanged(folder: RunDir, example: Record) -> None:
    folder.record.write_bytes(EXAMPLE.read_bytes())
    with open(lock_alive(folder.ledger), "rb"):
        assert folder.read() == example
    assert folder.read() == example


def test_a_folder_without_a_record(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"^cannot read .*/record\.json: No such file or directory$"):
        RunDir(tmp_path).read()


def test_a_run_that_was_declared_ended_writes_beside(folder: RunDir) -> None:
    """Nothing is overwritten, however often."""
    running = read_record(folder.record)
    folder.finalize(replace(running, outcome=Outcome(state="interrupted", message="declared")))
    before = folder.record.read_bytes(), folder.manifest.read_bytes()
    folder.update(running)
    late = [folder.finalize_or_beside(replace(running, outcome=Outcome(state=state)), {}) for state in STATES[1:3]]
    assert [path.name for path in late] == ["record.late.json", "record.late-2.json"] == names(folder.late_records())
    assert [read_record(path).outcome.state for path in late] == list(STATES[1:3])
    assert (folder.record.read_bytes(), folder.manifest.read_bytes()) == before
    with pytest.raises(RecordError, match="is finalized already and stays as it is"):
        folder.finalize(replace(running, outcome=Outcome(state="finished")))
    assert (folder.record.read_bytes(), folder.manifest.read_bytes()) == before


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]
