"""Output files as a checkpoint stores them, and where it may restore them."""

import io
from pathlib import Path
from typing import Any

import pytest

from samebits.core.checkpoint_store import CheckpointStore
from samebits.core.errors import RecordError
from samebits.runner.checkpoint.output_files import OutputSnapshot

_NOTHING: dict[str, Any] = {"folders": [], "files": [], "links": [], "open": []}


def snapshot(folder: Path) -> OutputSnapshot:
    outputs = folder / "outputs"
    outputs.mkdir(exist_ok=True)
    return OutputSnapshot(outputs, (), CheckpointStore(folder / "checkpoints"), lambda _: None)


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


@pytest.mark.parametrize(
    "state",
    [
        {"folders": ["/elsewhere"]},
        {"folders": ["../elsewhere"]},
        {"links": [["../elsewhere", "x"]]},
        {"files": [["a/../../elsewhere", 0o644, "sha256:" + "0" * 64]]},
        {"links": [["a", "/etc"]], "files": [["a/passwd", 0o644, "sha256:" + "0" * 64]]},
    ],
)
def test_a_place_outside_of_the_outputs_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="outside of the outputs"):
        snapshot(tmp_path).restore(_NOTHING | state)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["outputs"]
