"""The working folder: a copy of the code, from which what a script added is moved to the outputs."""

import os
from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.core.file_tree import hash_tree
from samebits.core.run_dir import RunDir
from samebits.runner.working_folder import WorkingFolder


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    (run.code / "package").mkdir(parents=True)
    (run.code / "empty").mkdir()
    (run.code / "train.py").write_text("pass\n")
    (run.code / "package" / "__init__.py").write_text("")
    hash_tree(run.code, "code").write(run.code_manifest)
    run.outputs.mkdir()
    return run


def _made(run: RunDir) -> WorkingFolder:
    working = WorkingFolder(run)
    working.make()
    return working


def _outputs(run: RunDir) -> dict[str, str]:
    paths = (path for path in run.outputs.rglob("*") if path.is_symlink() or path.is_file())
    return {str(path.relative_to(run.outputs)): path.read_text() for path in paths}


def test_new_files_become_outputs_and_the_code_stays(run: RunDir) -> None:
    working = _made(run)
    (run.work / "best.keras").write_text("b")
    (run.work / "empty" / "1.png").write_text("1")
    (run.work / "package" / "__pycache__").mkdir()
    (run.work / "package" / "__pycache__" / "x.pyc").write_text("cache")
    (run.work / ".hidden").write_text("h")
    (run.work / "latest").symlink_to(run.work / "best.keras")
    working.check(thorough=True)
    working.collect()
    assert _outputs(run) == {"best.keras": "b", "empty/1.png": "1", ".hidden": "h", "latest": "b"}
    assert not run.work.exists()
    assert sorted(path.name for path in run.code.rglob("*.py")) == ["__init__.py", "train.py"]


def test_a_taken_name_goes_into_a_folder_of_its_own(run: RunDir) -> None:
    working = _made(run)
    (run.outputs / "log").write_text("of the outputs")
    (run.outputs / "file").write_text("f")
    (run.work / "log").write_text("of the code")
    (run.work / "file").mkdir()
    (run.work / "file" / "inner").write_text("i")
    working.collect()
    assert _outputs(run) == {"log": "of the outputs", "work/log": "of the code", "file": "f", "work/file/inner": "i"}


def test_the_times_of_the_code_are_those_that_the_script_sees(run: RunDir) -> None:
    for path in (run.code / "train.py", run.code / "package" / "__init__.py", run.code / "package", run.code):
        os.utime(path, (1, 1))
    (run.code / "train.py").chmod(0o755)
    _made(run)
    for name in ("train.py", "package/__init__.py", "package", "."):
        assert (run.work / name).stat().st_mtime == 1
    assert (run.work / "train.py").stat().st_mode & 0o777 == 0o755


def _rewrite(path: Path) -> None:
    before = path.stat()
    path.write_text("PASS\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [_rewrite, Path.unlink, lambda path: (path.unlink(), path.symlink_to("/dev/null"))],
    ids=["rewritten", "removed", "replaced"],
)
@pytest.mark.parametrize("thorough", [False, True])
def test_a_changed_file_is_named(run: RunDir, change: object, thorough: bool) -> None:
    working = _made(run)
    working.check(thorough=thorough)
    change(run.work / "train.py")  # type: ignore[operator]
    with pytest.raises(InputError, match=r"changed files that were in its folder: train\.py; "):
        working.check(thorough=thorough)
    assert working.changed


def test_a_touched_file_is_not_changed(run: RunDir) -> None:
    working = _made(run)
    (run.work / "train.py").touch()
    (run.work / "train.py").write_text("pass\n")
    working.check()
    assert not working.changed


def test_code_that_changed_before_it_was_copied(run: RunDir) -> None:
    (run.code / "train.py").write_text("exit\n")
    with pytest.raises(InputError, match=r"code changed before it ran: train\.py"):
        WorkingFolder(run).make()
