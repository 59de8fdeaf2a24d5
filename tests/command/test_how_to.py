"""The commands of pages as they stand there, one after the other in one project, in a virtual environment."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command import ROOT, Project

pytestmark = [pytest.mark.usefixtures("locked"), pytest.mark.slow]

# What other tests run, as it needs a package index, a network, a GPU, an engine, an answer, or an interrupted run.
ELSEWHERE = {
    "echo pandas >> requirements.in",
    "samebits lock",
    "samebits fetch train.py",
    "samebits train train.py",
    "samebits build --gpu",
    "samebits train train.py --data data --gpus 1",
    "samebits pack last -o run.samebits.tar",
    "samebits verify run.samebits.tar",
    "samebits resume last",
    "samebits gc",
}
_BLOCK = re.compile(r"```sh\n(.*?)```|((?:^ {4}[^\n]*\n)+)", re.DOTALL | re.MULTILINE)
Run = Callable[[str], str]


def shown(page: str) -> list[str]:
    """The commands of a page's blocks, without their comments."""
    blocks = _BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    lines = [line for fenced, indented in blocks for line in (fenced or indented).splitlines()]
    return [line.partition(" # ")[0].strip() for line in lines]


@pytest.fixture
def run(small_project: Project, tmp_path: Path) -> Run:
    """Run a line as a shell would, and return what it prints; `diff` must find something."""
    settings = tmp_path / "config" / "samebits" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('runtime = "venv"\n')
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "XDG_CONFIG_HOME": str(settings.parents[1])}

    def call(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=small_project.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == (1 if " diff " in line else 0), f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return call


def test_how_to(small_project: Project, run: Run) -> None:
    commands = shown("how-to.md")
    assert set(commands) >= ELSEWHERE
    first = ""
    for command in [line for line in commands if line not in ELSEWHERE]:
        line = re.sub(r"\b(FOLDER|reference/NAME)", f"runs/{first}", command)
        run(re.sub(r"\bRUN\b", first, re.sub(r"\bOTHER\b", "last", line)))
        first = first or next((run.name for run in sorted(small_project.runs.glob("2*"))), "")
    assert not (small_project.runs / first).exists(), "the last one removes it"


def test_signatures(run: Run) -> None:
    run("samebits train train.py --data data")
    # The second block needs a library that is not installed here.
    lines = [line.replace("~/.config", "$XDG_CONFIG_HOME") for line in shown("signatures.md")[:4]]
    outputs = {line: run(line.replace("RUN", "last")) for line in lines}
    assert [line.split()[1] for line in outputs] == ["key", "sign", "verify", "audit"]
    assert list(outputs.values())[2].splitlines()[-1].startswith("identical")
