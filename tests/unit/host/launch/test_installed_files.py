"""A cached environment: every file that changed is named, however well the change is hidden."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from samebits.core.errors import ImageError
from samebits.host.launch import installed_files
from samebits.host.launch.installed_files import check_files, record_files

_SITE = "lib/python3.11/site-packages"


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    site = tmp_path / "venv" / _SITE
    (site / "__pycache__").mkdir(parents=True)
    (site / "six.py").write_text("x = 1\n")
    (site / "__pycache__" / "six.cpython-311.pyc").write_bytes(b"compiled")
    (tmp_path / "venv" / "lib64").symlink_to("lib")
    record_files(tmp_path / "venv")
    return tmp_path / "venv"


def _overwrite(path: Path, content: bytes) -> None:
    """Change a file so that its size and its time of modification are as before."""
    at = path.stat()
    assert len(content) == at.st_size
    path.write_bytes(content)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))


CHANGES = [
    (lambda site: _overwrite(site / "six.py", b"x = 2\n"), f"{_SITE}/six.py (changed)"),
    (
        lambda site: _overwrite(site / "__pycache__" / "six.cpython-311.pyc", b"attacked"),
        f"{_SITE}/__pycache__/six.cpython-311.pyc (changed)",
    ),
    (lambda site: (site / "six.py").unlink(), f"{_SITE}/six.py (removed)"),
    (lambda site: (site / "sitecustomize.py").touch(), f"{_SITE}/sitecustomize.py (added)"),
    (lambda site: (site / "evil.pth").write_text("import os\n"), f"{_SITE}/evil.pth (added)"),
]


@pytest.mark.parametrize(("change", "named"), CHANGES, ids=[name.rpartition("/")[2] for _, name in CHANGES])
def test_a_change_is_named(venv: Path, change: object, named: str) -> None:
    check_files(venv)
    assert callable(change)
    change(venv / _SITE)
    for _ in range(2):  # and it stays so
        with pytest.raises(ImageError) as caught:
            check_files(venv)
        assert str(caught.value) == (
            f"the virtual environment {venv} was changed: {named}; remove it, and the next run makes it again:"
            f" rm -r {venv}"
        )


def test_another_link(venv: Path) -> None:
    (venv / "lib64").unlink()
    (venv / "lib64").symlink_to("lib/")
    with pytest.raises(ImageError, match=r"lib64 \(changed\)"):
        check_files(venv)


def test_a_copy_is_hashed_once(venv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copied or restored cache has other times, and the same files."""
    copy = tmp_path / "copy"
    shutil.copytree(venv, copy, symlinks=True)
    for _ in range(2):
        check_files(copy)
    assert capsys.readouterr().err.count("checking the files") == 1


def test_hashed_when_asked_and_once_a_day(
    venv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hashed() -> int:
        return capsys.readouterr().err.count("checking the files")

    check_files(venv)
    assert hashed() == 0
    check_files(venv, thorough=True)
    assert hashed() == 1
    # A change that even the times do not show is found by then.
    looks = installed_files._looks(venv)
    monkeypatch.setattr(installed_files, "_looks", lambda _: looks)
    _overwrite(venv / _SITE / "six.py", b"x = 3\n")
    check_files(venv)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_401)
    with pytest.raises(ImageError, match=r"six\.py \(changed\)"):
        check_files(venv)


@pytest.mark.parametrize("name", ["samebits-files.json", "samebits-stamp.json"])
def test_its_own_files_are_lost(venv: Path, name: str) -> None:
    (venv / name).write_text("{")
    if name == "samebits-stamp.json":
        check_files(venv)
        assert json.loads((venv / name).read_text())["looks"]
    else:
        with pytest.raises(ImageError, match=r"^cannot check whether .* was changed: "):
            check_files(venv, thorough=True)


def test_headers_are_compared_when_all_is_hashed(venv: Path) -> None:
    """They are most of the files, and no training reads them."""
    folder = venv / _SITE / "tensorflow" / "include"
    folder.mkdir(parents=True)
    (folder / "tensor.h").touch()
    record_files(venv)
    (folder / "tensor.h").write_text("changed\n")
    check_files(venv)
    with pytest.raises(ImageError, match=r"tensorflow/include/tensor\.h \(changed\)"):
        check_files(venv, thorough=True)
