"""Folders nested more deeply than `shutil.rmtree` and `os.walk` reach, and than a path can name."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from samebits.core.deep_folders import remove_tree, visit_all
from samebits.host.cleanup.run_removal import remove_folder
from samebits.host.launch.tidy import take_rights

_DEPTH = 1500  # Python calls itself a thousand times at most
_NAME = "d" * 10


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder whose innermost one holds a set-user program."""
    top = tmp_path / "run"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(_DEPTH):
        os.mkdir(_NAME, dir_fd=here)
        inner = os.open(_NAME, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("program", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.chmod("program", 0o6777, dir_fd=here)
    os.close(here)
    yield top
    # pytest's own removal calls itself, too.
    with suppress(FileNotFoundError):
        remove_tree(top)


def seen(folder: Path) -> list[tuple[str, os.stat_result]]:
    found: list[tuple[str, os.stat_result]] = []
    visit_all(folder, lambda path, at: found.append((path.rpartition("/")[2], at)))
    return found


def test_all_is_visited(deep: Path) -> None:
    (deep / "beside").mkdir()
    (deep / "beside" / "file").touch()
    assert sorted(name for name, _ in seen(deep)) == sorted(["beside", "file", "program", *[_NAME] * _DEPTH])


def test_no_right_survives_at_any_depth(deep: Path) -> None:
    take_rights(deep)
    modes = {name: stat.S_IMODE(at.st_mode) for name, at in seen(deep)}
    assert modes["program"] == 0o755


def test_a_tree_is_removed(deep: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (deep / "link").symlink_to(tmp_path / "kept")
    (deep / _NAME / "link").symlink_to(tmp_path / "kept")
    remove_tree(deep)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").exists()


def test_a_run_is_removed(deep: Path, tmp_path: Path) -> None:
    """As `rm`, `gc` and the end of a training do."""
    remove_folder(deep)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_no_tree(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    with pytest.raises(OSError, match="link"):
        remove_tree(tmp_path / "link")
    assert seen(tmp_path / "link") == []
    assert (tmp_path / "kept").is_dir()


def test_what_cannot_be_opened_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root opens everything, the kernel's answer is played."""
    for name in ("closed", "open"):
        (tmp_path / name / "inner").mkdir(parents=True)
    real = os.open

    def refusing(path: str, flags: int, **options: int) -> int:
        if path == "closed":
            raise PermissionError(path)
        return real(path, flags, **options)

    monkeypatch.setattr(os, "open", refusing)
    assert sorted(name for name, _ in seen(tmp_path)) == ["closed", "inner", "open"]
