"""The commands of the how-to page, as they stand there, one after the other in one project."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import ROOT, Project

pytestmark = [pytest.mark.usefixtures("locked"), pytest.mark.slow]

PAGE = ROOT / "docs" / "how-to.md"
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


def shown() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_commands(small_project: Project, tmp_path: Path) -> None:
    settings = tmp_path / "config" / "samebits" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('runtime = "venv"\n')
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "XDG_CONFIG_HOME": str(settings.parents[1])}
    assert set(shown()) >= ELSEWHERE
    first = ""
    for command in [line for line in shown() if line not in ELSEWHERE]:
        line = re.sub(r"\b(FOLDER|reference/NAME)", f"runs/{first}", command)
        line = re.sub(r"\bRUN\b", first, re.sub(r"\bOTHER\b", "last", line))
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
        first = first or next((run.name for run in sorted(small_project.runs.glob("2*"))), "")
    assert not (small_project.runs / first).exists(), "the last one removes it"
