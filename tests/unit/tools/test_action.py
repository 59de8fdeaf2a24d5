"""The GitHub action's own shell script, with a command in the place of samebits."""

import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from support.command import ROOT

_RESULT = "sha256:" + "ab" * 32
_OTHER = "sha256:" + "cd" * 32


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("printed", "outputs"),
    [
        (["run runs/a b", "recipe sha256:1", f"result {_RESULT}"], ["run=runs/a b", f"result={_RESULT}"]),
        (["run fast", f"result {_OTHER}", "run runs/a", "recipe sha256:1"], ["run=runs/a"]),
        (["run fast", "x", f"result {_OTHER}", "run runs/a", "result model 0 changed", "different"], ["run=runs/a"]),
        (["result 7"], []),
    ],
)
def test_the_outputs_are_of_the_last_lines(printed: list[str], outputs: list[str], tmp_path: Path) -> None:
    """A script may print lines that look like them."""
    _, _, body = (ROOT / "action.yml").read_text().rpartition("run: |\n")
    command = tmp_path / "samebits" / "bin" / "samebits"
    command.parent.mkdir(parents=True)
    (tmp_path / "printed").write_text("".join(f"{line}\n" for line in printed))
    command.write_text('#!/bin/sh\ncat "$RUNNER_TEMP/printed"\n')
    command.chmod(0o755)
    names = ("SCRIPT", "ARGUMENTS", "RUN", "DATA", "EXPECT", "RUNTIME", "TRUST")
    files = {"GITHUB_OUTPUT": str(tmp_path / "outputs"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    variables = {**os.environ, **dict.fromkeys(names, ""), **files, "RUNNER_TEMP": str(tmp_path)}
    subprocess.run(["bash", "-c", textwrap.dedent(body)], env=variables, check=True, timeout=60)
    assert (tmp_path / "outputs").read_text().splitlines() == outputs
