"""Code and data are watched from the script's begin to its end: what was changed and changed back is found."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.core.run_dir import RunDir
from samebits.runner.inputs import InputMarks


def _rewrite(path: Path) -> None:
    at = path.stat()
    content = path.read_bytes()
    path.write_bytes(b"other")
    path.write_bytes(content)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))


def _replace(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    copy.rename(path)


def _rename(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.with_name("moved").rename(path)


@pytest.mark.parametrize("change", [_rewrite, _replace, _rename])
@pytest.mark.parametrize(("name", "what"), [("data/deep/x", "data"), ("run/code/x", "recorded code")])
def test_changed_back(change: Callable[[Path], None], name: str, what: str, tmp_path: Path) -> None:
    for folder in ("data/deep", "run/code"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x").write_text("x")
    marks = InputMarks(RunDir(tmp_path / "run"), tmp_path / "data")
    marks.check()
    (tmp_path / name).read_bytes()
    marks.check()
    change(tmp_path / name)
    with pytest.raises(InputError, match=f"the {what} changed during the run, and was changed back"):
        marks.check()
