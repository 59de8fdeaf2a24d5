"""The command as a user calls it, and a small project to train."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.core.record import Record, read_record
from samebits.core.run_dir import RunDir

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parents[1] / "scripts"
RESUMABLE = sorted(path.stem for path in (SCRIPTS / "resume").glob("*.py"))
DATA = Path(__file__).parents[1] / "data"
EXAMPLE = DATA / "record-1.0.json"
COMMAND = (str(Path(sys.executable).with_name("samebits")),)


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished call."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of ours on stderr; fails where there is none, or more than one, or a traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("samebits: ")]
        assert "Traceback" not in self.err, self.err
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("samebits: ")

    @property
    def run(self) -> Path:
        """The run's folder, from the last lines."""
        return Path(self.line("run"))

    def line(self, name: str) -> str:
        """The value behind `name` in the last lines."""
        found = [line for line in self.out.splitlines() if line.startswith(f"{name} ")]
        assert found, self.out + self.err
        return found[-1].removeprefix(f"{name} ")


@dataclass
class Project:
    """A folder with a script and data, as a user has one."""

    folder: Path
    runtime: str = "venv"
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def script(self) -> Path:
        return self.folder / "train.py"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def command(self, *options: str) -> list[str]:
        return [*COMMAND, "train", "train.py", "--data", "data", "--runtime", self.runtime, *options]

    def train(self, *options: str, **environment: str) -> Done:
        """`samebits train train.py --data data …`."""
        return call(*self.command(*options)[1:], folder=self.folder, **environment)

    def write(self, text: str) -> None:
        """Replace the script."""
        self.script.write_text(text)

    def only_run(self) -> Record:
        """The record of the one run there is."""
        (path,) = self.runs.glob("*/record.json")
        return read_record(path)


def call(*arguments: str, folder: Path, **environment: str) -> Done:
    """Call samebits as a user would, in a folder."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


def newest(project: Project) -> RunDir:
    """The run that was begun last."""
    return RunDir(max(project.runs.glob("2*/"), key=lambda path: path.stat().st_mtime_ns))


def load_json(text: str) -> Any:
    """JSON from a command's stdout."""
    return json.loads(text)


def write_notebook(path: Path, *sources: str | list[str], **more: Any) -> Path:
    """A notebook with a text cell and these code cells."""
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "source": "# Title", "metadata": {}}]
    cells += [{"cell_type": "code", "source": source, "metadata": {}, "outputs": [1]} for source in sources]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells} | more))
    return path
