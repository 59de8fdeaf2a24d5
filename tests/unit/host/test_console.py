"""What the host says while something takes long, and that it is silent where nothing does."""

import os
import re
import time
from pathlib import Path

import pytest

from samebits.core.file_tree import hash_tree
from samebits.host import console as display
from samebits.host.console import elapsed_progress, hashing_progress, print_table
from samebits.runner.process import console as runner_console
from samebits.runner.process.console import plain_progress


@pytest.fixture
def slow_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Half a GiB of nothing: no room on the disk, and long for who is quiet for a twentieth of a second only."""
    with (tmp_path / "large").open("wb") as file:
        os.truncate(file.fileno(), 1 << 29)
    for module in (display, runner_console):
        assert module._QUIET_SECONDS == 2.0
        monkeypatch.setattr(module, "_QUIET_SECONDS", 0.05)
    return tmp_path


def test_hashing_shows_how_far_it_is(slow_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with hashing_progress("hashing the data") as progress:
        hash_tree(slow_data, "data", progress=progress)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "hashing the data" in shown.err
    assert "512.0/512.0 MiB" in shown.err
    hash_tree(slow_data, "data", progress=plain_progress("checking the data"))
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("samebits: checking the data, ") and line.endswith(" of 0.5 GiB") for line in lines)


def test_hashing_little_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small").write_text("x")
    with hashing_progress("hashing the data") as progress:
        hash_tree(tmp_path, "data", progress=progress)
    hash_tree(tmp_path, "data", progress=plain_progress("checking the data"))
    assert capsys.readouterr().err == ""


def test_what_takes_long_says_for_how_long(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with elapsed_progress("thinking"):
        pass
    assert capsys.readouterr().err == "samebits: thinking\n"
    monkeypatch.setattr(display, "_REPORT_SECONDS", 0.4)
    with elapsed_progress("thinking"):
        time.sleep(1.0)
    first, *beats, last = capsys.readouterr().err.splitlines()
    assert first == "samebits: thinking"
    assert beats
    assert all(re.fullmatch(r"samebits: thinking: \d+ s so far", beat) for beat in beats)
    assert re.fullmatch(r"samebits: thinking: done in \d+ s", last)
    with pytest.raises(OSError, match=r"^no$"), elapsed_progress("thinking"):
        raise OSError("no")
    assert capsys.readouterr().err == "samebits: thinking\n"


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["run", "outcome"], [["a", "fini\x1bshed"], ["longer", "x\ny"]])
    assert capsys.readouterr().out == "run     outcome\na       fini\\x1bshed\nlonger  x\\ny\n"
