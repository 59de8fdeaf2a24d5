"""What helps on the command line: an overview by purpose, examples that are valid, completion, and quiet."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.core.run_config import split_arguments
from samebits.host import console
from samebits.host.cli import build
from samebits.host.cli.commands import COMMANDS, GROUPS, Command, overview
from samebits.host.cli.completion import SHELLS, complete_runs
from samebits.host.cli.parser import make_parser
from support.command import EXAMPLE, Done

RUN = "20260801T101500Z-train-bba4ec6d"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_an_example_is_valid(command: Command) -> None:
    words = command.example.split()
    assert words[:2] == ["samebits", command.name]
    arguments, _ = split_arguments(words[1:])
    assert callable(make_parser().parse_args(arguments).command)


def test_the_overview_lists_every_command_once(samebits: Callable[..., Done]) -> None:
    listed = [line.split()[0] for line in overview() if line.startswith("  ")]
    assert listed == [command.name for command in COMMANDS]
    assert len(set(listed)) == len(listed)
    shown = samebits("--help").out
    assert all(f"\n{title}, such as `samebits " in shown for title in GROUPS)
    assert "\nexample: samebits gc --dry-run\n" in samebits("gc", "--help").out


def test_no_image_for_a_script_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build_command", lambda **_: pytest.fail("it would build an image"))
    options = make_parser().parse_args(["build", str(tmp_path / "missing.py")])
    with pytest.raises(InputError, match=r"missing\.py does not exist; name a Python file"):
        options.command(options)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / RUN
    folder.mkdir(parents=True)
    shutil.copy(EXAMPLE, folder / "record.json")
    return tmp_path


def words(line: str, folder: Path) -> list[str]:
    """What the shell is answered, as argcomplete's protocol has it."""
    answer = folder / "answer"
    environment = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
    }
    command = [sys.executable, "-m", "samebits"]
    subprocess.run(command, cwd=folder, env=os.environ | environment, check=True, timeout=60, capture_output=True)
    return answer.read_text().split("\n")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("samebits ver", ["verify"]),
        ("samebits verify --seg", ["--segments"]),
        ("samebits show ", ["last", RUN]),
        ("samebits diff last 2026", [RUN]),
        ("samebits show --runs nowhere 2026", [""]),
    ],
)
def test_completion(runs: Path, line: str, found: list[str]) -> None:
    assert words(line, runs) == found


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_shell_reads(samebits: Callable[..., Done], tmp_path: Path, shell: str) -> None:
    done = samebits("completion", shell)
    assert (done.status, done.err) == (0, "")
    assert "samebits" in done.out
    if program := shutil.which(shell):
        (tmp_path / "code").write_text(done.out)
        subprocess.run([program, "-n", tmp_path / "code"], check=True, timeout=60)


def test_bash_really_completes(samebits: Callable[..., Done], runs: Path) -> None:
    code = samebits("completion", "bash").out
    script = f"""{code}
function samebits {{ {sys.executable} -m samebits "$@"; }}
COMP_WORDS=(samebits show 2026) COMP_CWORD=2 COMP_LINE="samebits show 2026" COMP_POINT=18 COMP_TYPE=9
_python_argcomplete samebits
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], cwd=runs, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [RUN]


def test_another_shell(samebits: Callable[..., Done]) -> None:
    done = samebits("completion", "tcsh")
    assert (done.status, done.complaint) == (2, "the shell must be one of bash, zsh, fish, not 'tcsh'")


def test_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "_quiet", False)
    console.log_progress("working")
    console.set_quiet()
    console.log_progress("working on")
    with console.elapsed_progress("adding up"), console.hashing_progress("hashing") as bar:
        bar(1, 2)
    console.log("wrong")
    assert capsys.readouterr().err == "samebits: working\nsamebits: wrong\n"


@pytest.mark.parametrize("arguments", [("-q", "gc", "--dry-run"), ("gc", "--dry-run", "--quiet")])
def test_quiet_before_and_after_the_command(
    samebits: Callable[..., Done], runs: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SAMEBITS_CACHE", str(runs / "cache"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    done = samebits(*arguments)
    assert done.status == 0
    assert "adding up" not in done.err


def test_no_control_character_is_completed(tmp_path: Path) -> None:
    for name in ("2026-a", "2026\x1b[2J", "2026\nb", "2026\u202e"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").touch()
    assert complete_runs("2026", argparse.Namespace(runs=tmp_path)) == ["2026-a"]
