"""Output files as a checkpoint stores them, and where it may restore them."""

import io
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samebits.core.checkpoint_store import CheckpointStore
from samebits.core.errors import RecordError
from samebits.core.recipe import KNOWN_LOGS
from samebits.runner.checkpoint.files.output_files import OutputSnapshot, flush_files, stored_digests
from samebits.runner.checkpoint.state.encoding import UncapturableError
from support.clocks import at_time

_NOTHING: dict[str, Any] = {"folders": [], "files": [], "links": [], "open": []}


def snapshot(folder: Path, ignore: tuple[str, ...] = ()) -> OutputSnapshot:
    outputs = folder / "outputs"
    outputs.mkdir(exist_ok=True)
    return OutputSnapshot(outputs, ignore, CheckpointStore(folder / "checkpoints"), lambda _: None)


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    """Content and mode are restored; later files are removed. A file in memory has no name, and does not matter."""
    written, in_memory = snapshot(tmp_path), io.TextIOWrapper(io.BytesIO())
    still_open = (tmp_path / "outputs" / "open").open("w")
    file, later = tmp_path / "outputs" / "a.sh", tmp_path / "outputs" / "later"
    file.write_text("first")
    file.chmod(0o755)
    state = written.capture()
    file.write_text("second, and longer")
    file.chmod(0o600)
    later.write_text("x")
    written.restore(state)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("first", 0o755)
    assert not later.exists()
    in_memory.close()
    still_open.close()


def test_times_and_modes_of_folders_come_back(tmp_path: Path) -> None:
    """Also those of a folder whose files were changed since, and of the outputs themselves."""
    written, folder = snapshot(tmp_path), tmp_path / "outputs" / "a"
    folder.mkdir(mode=0o750)
    (folder / "file").write_text("x")
    (folder / "link").symlink_to("file")
    paths = [folder / "file", folder / "link", folder, tmp_path / "outputs"]
    for number, path in enumerate(paths, 1):
        os.utime(path, ns=(number, number * 10**9 + 1), follow_symlinks=False)
    state = written.capture()
    (folder / "file").write_text("y")
    (folder / "new").touch()
    folder.chmod(0o700)
    written.restore(state)
    assert [path.lstat().st_mtime_ns for path in paths] == [number * 10**9 + 1 for number in (1, 2, 3, 4)]
    assert folder.stat().st_mode & 0o777 == 0o750
    # A checkpoint of an earlier version has no times.
    del state["times"]
    written.restore(state)
    assert (folder / "file").read_text() == "x"


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _hard_link(path: Path) -> None:
    path.touch()
    os.link(path, path.with_name("other"))


def _attribute(path: Path) -> None:
    path.touch()
    try:
        os.setxattr(path, "user.n", b"1")
    except OSError:
        pytest.skip("this file system has no attributes")


@pytest.mark.parametrize(
    ("make", "message"),
    [(_pipe, "neither file, folder nor link"), (_hard_link, "hard link"), (_attribute, "extended attributes")],
)
def test_what_a_copy_would_lose_is_refused(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    written = snapshot(tmp_path)
    make(tmp_path / "outputs" / "held")
    with pytest.raises(UncapturableError, match=message):
        written.capture()


@pytest.mark.parametrize(
    "state",
    [
        {"times": [[".", 0o755, "a", 2]]},
        {"times": [["."]]},
        {"times": [[".", -1, 1, 2]]},
        {"times": [[".", None, 1, 1 << 80]]},
        {"times": {}},
        {"files": [["a", None, "sha256:" + "0" * 64]]},
        {"ignored": [["a"]]},
        {"open": [["a", -1]]},
        {"folders": [1]},
        {"folders": ["a\0b"]},
        {"links": None},
    ],
)
def test_malformed_state_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="malformed"):
        snapshot(tmp_path).restore(_NOTHING | state)


def test_the_mode_among_the_times_is_of_folders(tmp_path: Path) -> None:
    """A forged checkpoint may name a file there."""
    written, file = snapshot(tmp_path), tmp_path / "outputs" / "a"
    file.touch(mode=0o600)
    state = written.capture()
    state["times"] = [["a", 0o777, 1, 1]]
    written.restore(state)
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_random_file_of_a_saved_model_comes_back(tmp_path: Path) -> None:
    """It stands apart from the files that a resumed run must reproduce. An event file of TensorBoard is no part."""
    written, outputs = snapshot(tmp_path, KNOWN_LOGS), tmp_path / "outputs"
    (outputs / "exported").mkdir()
    for name in ("exported/fingerprint.pb", "exported/saved_model.pb", "fingerprint.pb", "events.out.tfevents.1"):
        (outputs / name).write_text(name)
    state = written.capture()
    assert [path for path, *_ in state["files"]] == ["exported/saved_model.pb", "fingerprint.pb"]
    assert [path for path, *_ in state["ignored"]] == ["exported/fingerprint.pb"]
    assert len(stored_digests(state)) == 3
    (outputs / "exported" / "fingerprint.pb").unlink()
    written.restore(state)
    assert (outputs / "exported" / "fingerprint.pb").read_text() == "exported/fingerprint.pb"
    written.restore(state)
    assert (outputs / "exported" / "fingerprint.pb").exists()


def test_times_lead_to_no_other_file(tmp_path: Path) -> None:
    """A forged checkpoint may name a link as a folder: the file to which it leads keeps its mode."""
    written, other = snapshot(tmp_path), tmp_path / "other"
    other.touch(mode=0o600)
    (tmp_path / "outputs" / "link").symlink_to(other)
    state = written.capture()
    state["times"] = [["link", 0o777, 1, 1]]
    written.restore(state)
    assert other.stat().st_mode & 0o777 == 0o600
    assert other.stat().st_mtime_ns > 1


@pytest.mark.parametrize(
    "state",
    [
        {"folders": ["/elsewhere"]},
        {"folders": ["../elsewhere"]},
        {"links": [["../elsewhere", "x"]]},
        {"times": [["../elsewhere", 0o777, 1, 1]]},
        {"files": [["a/../../elsewhere", 0o644, "sha256:" + "0" * 64]]},
        {"links": [["a", "/etc"]], "files": [["a/passwd", 0o644, "sha256:" + "0" * 64]]},
    ],
)
def test_a_place_outside_of_the_outputs_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="outside of the outputs"):
        snapshot(tmp_path).restore(_NOTHING | state)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["outputs"]


def _reads(written: OutputSnapshot, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many files the next capture reads."""
    read: list[Path] = []
    store_file = CheckpointStore.store_file
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "store_file", lambda *words: read.append(words[1]) or store_file(*words))  # type: ignore[func-returns-value]
        written.capture()
    return len(read)


def test_times_are_relied_on_once_they_are_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change in the same moment may leave them as they are; after the clock was set back they say nothing."""
    written = snapshot(tmp_path)
    (tmp_path / "outputs" / "a").write_text("1")
    at_time(monkeypatch, "2001-01-01T00:00:00+00:00")
    assert [_reads(written, monkeypatch) for _ in range(3)] == [1, 1, 1]
    at_time(monkeypatch, "2101-01-01T00:00:00+00:00")
    assert [_reads(written, monkeypatch) for _ in range(3)] == [1, 0, 0]


def test_a_mapped_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its times stay when a page that was written before changes; and once more after the mapping ended."""
    written, path = snapshot(tmp_path), tmp_path / "outputs" / "a"
    path.write_text("1234")
    at_time(monkeypatch, "2101-01-01T00:00:00+00:00")
    assert [_reads(written, monkeypatch) for _ in range(2)] == [1, 0]
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4) as mapped:
        assert [_reads(written, monkeypatch) for _ in range(2)] == [1, 1]
        mapped[0:1] = b"2"
    assert [_reads(written, monkeypatch) for _ in range(3)] == [1, 0, 0]


def test_the_clock_is_read_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is large takes longer to read than its times lag behind."""
    written, now = snapshot(tmp_path), time.time_ns()
    (tmp_path / "outputs" / "a").write_text("1")
    clock = iter(range(now, now + 100 * 10**9, 10**9))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    assert [_reads(written, monkeypatch) for _ in range(3)] == [1, 1, 0]


@pytest.mark.parametrize("mode", ["w", "wb", "w+b"])
def test_what_a_file_object_holds_back_is_written(tmp_path: Path, mode: str) -> None:
    inside, elsewhere = tmp_path / "outputs", tmp_path / "else"
    for folder in (inside, elsewhere):
        folder.mkdir()
    # By another name of the folder, and before and after the file was renamed.
    (tmp_path / "link").symlink_to(inside)
    content = "held" if mode == "w" else b"held"
    with (tmp_path / "link" / "file").open(mode) as file, (elsewhere / "file").open(mode) as other:
        for held in (file, other):
            held.write(content)
        flush_files(elsewhere / "none", inside)
        assert (inside / "file").read_bytes() == b"held"
        (inside / "file").rename(inside / "renamed")
        file.write(content)
        flush_files(inside)
        assert (inside / "renamed").read_bytes() == b"held" * 2
        assert (elsewhere / "file").read_bytes() == b""
