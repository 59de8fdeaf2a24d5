"""A redacted argument reaches the script, in either runtime, and no file that samebits writes."""

from pathlib import Path

import pytest

from samebits.core.run_dir import RunDir
from support.command import Project, call
from support.fake_runner import Played, played

__all__ = ["played"]

SECRET = "correct-horse-battery"
_SCRIPT = """
import os, pathlib, sys
assert "SAMEBITS_REDACTED" not in os.environ
pathlib.Path(os.environ["SAMEBITS_OUTPUT"], "length.txt").write_text(str([len(item) for item in sys.argv[1:]]))
if "--fail" in sys.argv:
    raise ValueError(f"no such key: {sys.argv[2]}")
"""


def _holding(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
def test_it_reaches_the_script_alone(each_runtime: Project) -> None:
    project = each_runtime
    project.write(_SCRIPT)
    done = project.train("--redact", "api-key", "--", "--api-key", SECRET)
    assert done.status == 0, done.err
    run = RunDir(project.folder / done.run)
    assert (run.outputs / "length.txt").read_text() == str([len("--api-key"), len(SECRET)])
    assert run.read().recipe.code.arguments == ("--api-key", "[redacted]")
    assert _holding(run.path) == []
    for words in (("show", run.path.name), ("list",), ("report", run.path.name)):
        shown = call(*words, folder=project.folder)
        assert SECRET not in shown.out + shown.err
    without = call("verify", run.path.name, folder=project.folder)
    assert (without.status, without.complaint) == (
        2,
        "the record does not hold the value of --api-key; set SAMEBITS_REDACTED_API_KEY to it, and try again",
    )
    other = call("verify", run.path.name, folder=project.folder, SAMEBITS_REDACTED_API_KEY="another")
    assert other.status == 3
    assert "code.redacted.api-key" in other.out + other.err
    again = call("verify", run.path.name, folder=project.folder, SAMEBITS_REDACTED_API_KEY=SECRET)
    assert (again.status, again.out.splitlines()[-1].partition(":")[0]) == (0, "identical"), again.err
    assert _holding(project.runs) == []


@pytest.mark.slow
@pytest.mark.usefixtures("locked")
def test_what_the_script_says_of_it(small_project: Project) -> None:
    small_project.write(_SCRIPT)
    done = small_project.train("--redact", "api-key", "--", "--api-key", SECRET, "--fail")
    assert done.status == 1
    run = RunDir(small_project.folder / done.run)
    assert run.read().outcome.message == "the script failed: ValueError: no such key: [redacted]"
    assert (SECRET in done.err, _holding(run.path)) == (False, [])
    small_project.write("import sys\nprint(sys.argv)\n")
    done = small_project.train("--redact", "api-key", "--", "--api-key", SECRET)
    assert "the script left a redacted value in log.txt; look at that before you hand the run over" in done.err


def test_a_run_is_resumed_with_the_same_value_only(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    played.player.dies = 0, 2
    run = played.train("--redact", "api-key", "--", f"--api-key={SECRET}")
    played.player.dies = None
    assert run.read().recipe.code.arguments == ("--api-key=[redacted]",)
    done = played.call("resume", run.path.name)
    assert (done.status, done.err.count("set SAMEBITS_REDACTED_API_KEY to it")) == (2, 1)
    monkeypatch.setenv("SAMEBITS_REDACTED_API_KEY", "another")
    done = played.call("resume", run.path.name)
    assert done.status == 2
    assert "another recipe: code.redacted.api-key" in done.err
    monkeypatch.setenv("SAMEBITS_REDACTED_API_KEY", SECRET)
    done = played.call("resume", run.path.name)
    assert done.status == 0, done.err
    assert _holding(run.path.parent) == []
