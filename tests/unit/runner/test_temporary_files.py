"""Temporary files in a checkpoint: what changed since training began, and what may not be written elsewhere."""

import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samebits.core.checkpoint_store import CheckpointStore
from samebits.runner.checkpoint.files.temporary_files import TemporaryFiles, private_temporary_folder
from samebits.runner.checkpoint.state.encoding import UncapturableError

Make = Callable[[], TemporaryFiles]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A temporary folder with what a script made before training."""
    made = tmp_path / "temporary"
    (made / "data").mkdir(parents=True)
    for name in ("data/large.bin", "state.json"):
        (made / name).write_text("before")
    return made


@pytest.fixture
def make(folder: Path, tmp_path: Path) -> Make:
    return lambda: TemporaryFiles(folder, CheckpointStore(tmp_path / "checkpoints"), lambda _: None)


def test_what_changed_during_training_comes_back(folder: Path, make: Make) -> None:
    """A resumed script makes the files of its beginning again; those of the training are restored."""
    first = make()
    first.begin()
    (folder / "state.json").write_text("second epoch")
    (folder / "new").mkdir()
    (folder / "new" / "best.h5").write_text("best")
    (folder / "__autograph_generated_file1.py").write_text("TensorFlow's own")
    state = first.capture()
    assert [path for path, *_ in state["files"]] == ["new/best.h5", "state.json"]
    for path in ("new/best.h5", "new"):
        getattr(folder / path, "rmdir" if path == "new" else "unlink")()
    (folder / "state.json").write_text("before")
    second = make()
    second.begin()
    second.restore(state)
    assert {name: (folder / name).read_text() for name in ("new/best.h5", "state.json", "data/large.bin")} == {
        "new/best.h5": "best",
        "state.json": "second epoch",
        "data/large.bin": "before",
    }
    # To read a file sets a time of it.
    assert {**second.capture(), "times": []} == {**state, "times": []}


def test_a_mapped_file_is_captured(folder: Path, make: Make) -> None:
    """Its times need not say that training changed it."""
    files = make()
    with (folder / "state.json").open("r+b") as file, mmap.mmap(file.fileno(), 6):
        files.begin()
    assert [path for path, *_ in files.capture()["files"]] == ["state.json"]


def test_nothing_is_removed(folder: Path, make: Make) -> None:
    files = make()
    files.begin()
    state = files.capture()
    (folder / "of_another_program").write_text("x")
    files.restore(state)
    assert (folder / "of_another_program").exists()


def test_a_removed_file_is_refused(folder: Path, make: Make) -> None:
    files = make()
    files.begin()
    (folder / "state.json").unlink()
    with pytest.raises(UncapturableError, match=r"removed the temporary file state\.json during training"):
        files.capture()


def test_a_file_written_elsewhere_is_refused(tmp_path: Path, make: Make) -> None:
    """Where training writes it, and it is still there: what was written before, a resumed script writes again."""
    other, written = tmp_path / "elsewhere.txt", {str(tmp_path / "elsewhere.txt"): 1}
    files = make()
    files.written = lambda: written
    files.begin()
    other.write_text("before")
    files.capture()
    written[str(other)] += 1
    with pytest.raises(UncapturableError, match=r"writes .*elsewhere\.txt during training"):
        files.capture()
    other.unlink()
    files.capture()


def test_only_a_folder_of_the_run_is_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its home takes the temporary files, and no mount of the user is in its place."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert private_temporary_folder(lambda _: False) == tmp_path
    assert private_temporary_folder(lambda _: True) is None
    monkeypatch.setenv("HOME", "/root")
    assert private_temporary_folder(lambda _: False) is None


@pytest.mark.parametrize("begun", [False, True])
def test_what_vanishes_while_it_is_looked_at(
    folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """Another thread's file ends no training."""
    files, lstat = make(), Path.lstat
    if begun:
        files.begin()

    def vanish(path: Path) -> Any:
        if path.name == "state.json":
            path.unlink(missing_ok=True)
        return lstat(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", vanish)
        files.begin()
        assert files.capture()["files"] == []
    assert not (folder / "state.json").exists()
