"""Inputs in a run: links where the script looks, in folders that it can write to, checked when it has ended."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import InputError, SettingError
from samebits.core.file_tree import Tree
from samebits.core.inputs_lock import InputsLock, PinnedFile
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.runner.pinned_files import PinnedFiles, use_mounted
from samebits.runner.working_folder import WorkingFolder

_CONTENTS = {"home/.keras/datasets/a": b"one", "work/data/b": b"two"}
_LOCK = InputsLock.of(
    PinnedFile(path=path, digest=Digest.of_bytes(content), size=len(content)) for path, content in _CONTENTS.items()
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    for path, content in _CONTENTS.items():
        target = tmp_path / "inputs" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SAMEBITS_INPUTS", str(tmp_path / "inputs"))
    run = RunDir(tmp_path / "run")
    run.code.mkdir(parents=True)
    run.outputs.mkdir()
    Tree(entries=()).write(run.code_manifest)
    _LOCK.write(run.inputs)
    return run


def _placed(run: RunDir, example: Record) -> tuple[PinnedFiles, WorkingFolder]:
    pinned = PinnedFiles(run, replace(example.recipe, inputs=_LOCK.digest))
    working = WorkingFolder(run, pinned.is_link)
    working.make()
    pinned.place()
    return pinned, working


def test_the_script_finds_them_and_can_write_beside_them(run: RunDir, example: Record) -> None:
    pinned, working = _placed(run, example)
    datasets = Path.home() / ".keras" / "datasets"
    assert ((datasets / "a").read_bytes(), (run.work / "data" / "b").read_bytes()) == (b"one", b"two")
    (datasets / "a_extracted").mkdir()
    (run.work / "data" / "own.txt").write_text("mine")
    assert "SAMEBITS_INPUTS" not in os.environ
    pinned.check()
    working.collect()
    assert [str(path.relative_to(run.outputs)) for path in run.outputs.rglob("*.*")] == ["data/own.txt"]
    assert not (run.outputs / "data" / "b").exists()


def test_what_the_script_removes_is_no_change(run: RunDir, example: Record) -> None:
    pinned, _ = _placed(run, example)
    (Path.home() / ".keras" / "datasets" / "a").unlink()
    pinned.check()


@pytest.mark.parametrize("where", ["home/.keras/datasets/a", "work/data/b"])
def test_another_content_in_its_place_fails_the_run(where: str, run: RunDir, example: Record) -> None:
    pinned, _ = _placed(run, example)
    root, _, rest = where.partition("/")
    path = (Path.home() if root == "home" else run.work) / rest
    path.unlink()
    path.write_bytes(_CONTENTS[where])
    pinned.check()
    path.write_bytes(b"other")
    with pytest.raises(InputError, match=f"^the script replaced inputs: {where};"):
        pinned.check()


def test_a_file_that_changed_fails_the_run(run: RunDir, example: Record, tmp_path: Path) -> None:
    pinned, _ = _placed(run, example)
    (tmp_path / "inputs" / "work" / "data" / "b").write_bytes(b"twO")
    with pytest.raises(InputError, match=r"^an input changed during the run: work/data/b;"):
        pinned.check()


def test_the_lock_must_be_that_of_the_recipe(run: RunDir, example: Record) -> None:
    with pytest.raises(InputError, match="is not the lock that the recipe names"):
        PinnedFiles(run, replace(example.recipe, inputs=Digest.of_bytes(b"other")))


def test_without_its_files_the_run_does_not_start(
    run: RunDir, example: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAMEBITS_INPUTS")
    with pytest.raises(SettingError, match="names no folder"):
        PinnedFiles(run, replace(example.recipe, inputs=_LOCK.digest))


def test_a_run_without_inputs_gets_no_links(run: RunDir, example: Record) -> None:
    pinned = PinnedFiles(run, example.recipe)
    pinned.place()
    pinned.check()
    assert not os.listdir(Path.home())


def test_a_plain_docker_run_takes_them_from_its_mount(run: RunDir, example: Record, tmp_path: Path) -> None:
    use_mounted(_LOCK, tmp_path / "inputs")
    pinned, _ = _placed(run, example)
    assert pinned.folder == tmp_path / "inputs"


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "work/data/b").write_bytes(b"twO"),
            "does not hold what inputs.lock names: work/data/b;",
        ),
        (
            lambda folder: (folder / "work/data/b").unlink(),
            "does not hold what inputs.lock names: work/data/, work/data/b;",
        ),
        (lambda folder: (folder / "home/more").write_bytes(b""), "does not hold what inputs.lock names: home/more;"),
        (
            shutil.rmtree,
            "the script needs 2 files of inputs.lock; run `samebits fetch --export runs/inputs` and add -v",
        ),
    ],
    ids=["changed", "gone", "more", "not mounted"],
)
def test_a_mount_of_others_is_refused(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    """Not even by naming the folder in a variable."""
    change(tmp_path / "inputs")
    with pytest.raises(InputError, match=re.escape(message)):
        use_mounted(_LOCK, tmp_path / "inputs")
    assert "SAMEBITS_INPUTS" not in os.environ


@pytest.mark.usefixtures("run")
def test_a_mount_that_no_lock_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is mounted, and no inputs\.lock beside the script names its files"):
        use_mounted(None, tmp_path / "inputs")
    use_mounted(None, tmp_path / "none")
    assert "SAMEBITS_INPUTS" not in os.environ
