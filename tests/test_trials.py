"""Short runs in other surroundings: each bad script is found, with what breaks it; no good one is accused."""

import json
from pathlib import Path

import pytest

from conftest import SCRIPTS, Done, call

_BAD = sorted((SCRIPTS / "check" / "bad").glob("*.py"))
_GOOD = sorted((SCRIPTS / "check" / "good").glob("*.py"))


def _check(folder: Path, script: Path, *options: str) -> Done:
    """`samebits check train.py …` beside three data files."""
    data = folder / "data"
    data.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (data / name).write_text(name)
    (folder / "train.py").write_text(script.read_text())
    return call("check", "train.py", "--data", "data", "--runtime", "venv", *options, folder=folder)


@pytest.mark.locked
@pytest.mark.parametrize("script", _BAD, ids=lambda path: path.stem)
def test_bad(tmp_path: Path, script: Path) -> None:
    """The first line of each script says what has to be found."""
    kind, _, wanted = script.read_text().splitlines()[0].removeprefix("# ").partition(": ")
    done = _check(tmp_path, script, "--run", "--format", "json")
    assert done.status == 1, done.err
    found = json.loads(done.out)["run"]
    assert not found["same"]
    if kind == "fails":
        assert wanted in f"{found['failure']} {found['undetermined']}"
    else:
        assert found["because"] == wanted
        assert found["where"].startswith("fit 0, epoch 0, step 0")
        assert found["causes"]
        assert found["suspects"]
    assert not list(tmp_path.glob("runs*"))


@pytest.mark.locked
@pytest.mark.parametrize("script", _GOOD, ids=lambda path: path.stem)
def test_good(tmp_path: Path, script: Path) -> None:
    done = _check(tmp_path, script, "--run")
    assert done.status == 0, done.out + done.err
    assert done.out.splitlines()[-1].startswith("two short runs are the same (5 steps at most), with other hash seed,")
