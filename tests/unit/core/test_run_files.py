"""The door to a run's files: regular ones beneath the folder, and nothing else, at once."""

import os
from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import RecordError
from samebits.core.file_tree import TreeEntry
from samebits.core.folder_manifest import FolderEntry
from samebits.core.run_files import (
    MAX_DEPTH,
    NotPlainFileError,
    copy_plain,
    most_bytes,
    open_plain,
    plain_files,
    plain_lines,
    plain_names,
    plain_sha256,
    read_plain,
    safe_path,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_bytes(b"one\ntwo")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


def test_a_file_is_read(run: Path) -> None:
    path = run / "a" / "b" / "file"
    assert read_plain(path, 7, run) == b"one\ntwo"
    assert list(plain_lines(path, run)) == [b"one\n", b"two"]
    assert len(plain_sha256(path)) == 64
    assert list(plain_files(run)) == list(plain_files(run, "a")) == ["a/b/file"]


def test_a_link_to_the_run_itself_is_the_users(run: Path, tmp_path: Path) -> None:
    (tmp_path / "named").symlink_to(run)
    assert read_plain(tmp_path / "named" / "a" / "b" / "file", 7, tmp_path / "named") == b"one\ntwo"


@pytest.mark.parametrize("place", ["a", "a/b", "a/b/file"])
def test_no_link_below_it_is_followed(run: Path, tmp_path: Path, place: str) -> None:
    """Wherever it leads, also to the very same file."""
    (run / place).rename(tmp_path / "moved")
    (run / place).symlink_to(tmp_path / "moved")
    with pytest.raises(OSError, match=r"link|not a folder"):
        open_plain(run / "a" / "b" / "file", run)
    with pytest.raises(OSError, match=r"link|not a folder"):
        list(plain_files(run, "a"))


def test_no_path_leads_out(run: Path) -> None:
    for path in (run / ".." / "secret", run / "a" / ".." / ".." / "secret"):
        with pytest.raises(NotPlainFileError, match="leads out of the folder"):
            open_plain(path, run)


@pytest.mark.parametrize("content", [b"x" * 8, b""])
def test_what_is_too_large_is_not_read(run: Path, content: bytes) -> None:
    path = run / "large"
    with path.open("wb") as file:
        file.write(content)
        os.truncate(file.fileno(), 1 << 40)
    for read in (lambda: read_plain(path, 1 << 20), lambda: plain_sha256(path, most=1 << 20)):
        with pytest.raises(NotPlainFileError, match="larger than 1 MiB"):
            read()
    with pytest.raises(NotPlainFileError, match="a line is longer than 64 MiB"):
        list(plain_lines(path))


def test_deep_folders_are_refused(run: Path) -> None:
    here = run / Path(*["d"] * (MAX_DEPTH + 2))
    here.mkdir(parents=True)
    (here / "file").touch()
    with pytest.raises(NotPlainFileError, match="nested deeper"):
        list(plain_files(run))


def test_a_copy_is_a_file_of_its_own(run: Path, tmp_path: Path) -> None:
    source, target = run / "a" / "b" / "file", tmp_path / "copy"
    copy_plain(source, run, target)
    assert target.read_bytes() == source.read_bytes()
    assert not target.samefile(source)
    with pytest.raises(FileExistsError):
        copy_plain(source, run, target)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(FileExistsError):
        copy_plain(source, run, tmp_path / "link")
    assert (tmp_path / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("path", ["", ".", "..", "/", "/etc", "../a", "a/..", "a/../b", "a//b", "./a", "a\0", "//"])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(RecordError, match="is no path beneath a run's folder"):
        safe_path(path)
    for entry in (TreeEntry, FolderEntry):
        with pytest.raises(RecordError, match="is no path beneath a run's folder"):
            entry.from_dict({"path": path})


@pytest.mark.parametrize("path", ["a", "a/b", "a/", "..a", "a..", ".hidden", "a b", "\\x1b", "ü"])
def test_paths_that_are(path: str) -> None:
    assert safe_path(path) == path


def test_how_large_a_file_may_be() -> None:
    """A ledger, outputs and checkpoints may be of any size."""
    for path in ("ledger.jsonl", "outputs/x", "checkpoints/objects/0", "models/m.keras", "log.txt"):
        assert most_bytes(path) is None
    for path in ("record.json", "code.jsonl", "code/train.py", "image/source/x.py"):
        assert most_bytes(path) is not None


def test_a_folder_that_becomes_a_link_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a check and the listing there is a moment, in which the folder may be replaced."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / "code").mkdir(parents=True)
    (run / "code" / "a").touch()
    outside.mkdir()
    (outside / "secret").touch()
    scandir = os.scandir

    def replaced(what: Any) -> Any:
        if not (run / "aside").exists():
            (run / "code").rename(run / "aside")
            (run / "code").symlink_to(outside)
        return scandir(what)

    monkeypatch.setattr(os, "scandir", replaced)
    assert plain_names(run / "code") == ["a"]
    with pytest.raises(NotPlainFileError):
        plain_names(run / "code")
