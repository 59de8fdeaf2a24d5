"""Several runs in one process of the locked environment, which has TensorFlow imported once."""

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samebits.core.record import Record, read_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import plan_run, publish
from samebits.host.image.build_context import staged_context
from samebits.host.launch.runtime import choose_runtime
from samebits.host.launch.venv import locked_python, plan_process
from support.command import SCRIPTS, Project
from support.traced import Line, lines_of


@dataclass(frozen=True, kw_only=True)
class SessionDone:
    """One run of the process: its exit status and folder, and the attributes that stayed patched after it."""

    status: int
    folder: RunDir
    patched: int
    left: list[str]

    @property
    def record(self) -> Record:
        return read_record(self.folder.record)

    def lines(self, *events: str) -> list[Line]:
        return lines_of(self.folder.path, *events)


def run_sessions(project: Project, *cases: dict[str, Any], **options: Any) -> tuple[list[SessionDone], str]:
    """Train a project's script once for each case, and what was printed to stderr.

    A case holds options of the run over `options`, and what `scripts/sessions.py` takes.
    """
    spec = RunConfig(script=project.script, data=project.data, runs=project.runs, runtime="venv", **options)
    runtime = choose_runtime(spec)
    prepared, folders = [], []
    for case in cases:
        told: dict[str, Any] = {name: case[name] for name in ("versions", "gone") if name in case}
        asked = replace(spec, **{name: value for name, value in case.items() if name not in told})
        folder, _ = publish(plan_run(asked, runtime.setup))
        folders.append(folder)
        prepared.append({"folder": str(folder.path), **told})
    listed = project.folder / "cases.json"
    listed.write_text(json.dumps(prepared))
    err = _start(project, spec, listed)
    answers = json.loads(listed.read_text())
    return [SessionDone(folder=folder, **answer) for folder, answer in zip(folders, answers, strict=True)], err


def _start(project: Project, spec: RunConfig, listed: Path) -> str:
    variables = spec.variables | {"SAMEBITS_DATA": str(project.data.resolve())}
    request = plan_process(
        (), variables, scratch=project.folder, python=locked_python(), source=staged_context() / "source"
    )
    done = subprocess.run(
        [locked_python(), "-P", SCRIPTS / "sessions.py", listed],
        env=request.environment,
        cwd=project.folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr
