"""Cases of `state_cases`, each trained as a whole, killed after an epoch, and resumed: in the real runner, forked."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from samebits.core.checkpoint_store import Position
from samebits.core.errors import SamebitsError
from samebits.core.recipe import KNOWN_LOGS
from samebits.core.record import FINISHED, read_record, write_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import PlannedRun, plan_run, publish
from samebits.host.image.build_context import staged_context
from samebits.host.image.project_lock import project_kind
from samebits.host.image.wheelhouse import Target
from samebits.host.interpreters import this_interpreter
from samebits.host.launch.runtime import Runtime, choose_runtime
from samebits.host.launch.venv import locked_python, plan_process
from samebits.host.rerun import resume as host_resume
from samebits.host.rerun.request import RerunRequest
from support.command import SCRIPTS
from support.resumed import as_if_killed_after
from support.state_cases import NAMES, Case, script_of

SAME, REFUSED, WRONG, BROKEN = "same", "refused", "wrong", "broken"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a case ended, and why."""

    verdict: str
    why: str = ""

    def names(self, case: Case) -> bool:
        """Whether the reason names the attribute, global or class that holds the state."""
        return NAMES[case.name] in self.why


@dataclass(frozen=True, kw_only=True)
class Report:
    """What stands for a preflight: this machine made the run a moment ago."""

    spec: RunConfig
    available_runtime: Runtime

    def planned(self, **known: object) -> PlannedRun:
        return plan_run(self.spec, replace(self.available_runtime.setup, **known))  # type: ignore[arg-type]


class Cases:
    """The cases that are asked for, trained and resumed in a folder; with `trust`, without the replay proof.

    `lock` is that of another TensorFlow.
    """

    def __init__(self, folder: Path, cases: Sequence[Case], *, trust: bool = False, lock: Path | None = None) -> None:
        self.folder, self.cases, self.lock = folder, cases, lock
        self.options = host_resume.ResumeOptions(trust=trust)
        self.ended: dict[Case, Ended] = {}

    def judge(self) -> dict[Case, Ended]:
        """Train each as a whole, kill and resume it, and compare."""
        wholes = dict(zip(self.cases, self.train([script_of(case) for case in self.cases]), strict=True))
        resumed = {case: run for case, whole in wholes.items() if (run := self._resumed(case, whole)) is not None}
        self._carry_out("resumed", list(resumed.values()))
        for case, run in resumed.items():
            self.ended[case] = judged(wholes[case], run)
        return self.ended

    def train(self, scripts: Sequence[str], every: int | None = None) -> list[RunDir]:
        """Train these scripts once."""
        runs = []
        for number, text in enumerate(scripts):
            script = self.folder / "code" / str(number) / "train.py"
            script.parent.mkdir(parents=True)
            script.write_text(text)
            spec = RunConfig(
                script=script,
                runs=self.folder / "runs",
                runtime="venv",
                keep="all",
                checkpoint_every=every,
                lock=self.lock,
                ignore_outputs=KNOWN_LOGS,
            )
            runs.append(publish(plan_run(spec, choose_runtime(spec).setup))[0])
        self._carry_out("wholes", runs)
        return runs

    def resume(self, scripts: Mapping[str, str], every: int | None = None) -> dict[str, list[Ended]]:
        """Train each script, kill it at its second checkpoint and at one before its end, and resume it there."""
        wholes = dict(zip(scripts, self.train(list(scripts.values()), every), strict=True))
        found: dict[str, list[Ended]] = {}
        resumed = [
            (name, run) for name, whole in wholes.items() for run in self._killed(whole, found.setdefault(name, []))
        ]
        self._carry_out("resumed", [run for _, run in resumed])
        for name, run in resumed:
            found[name].append(judged(wholes[name], run))
        return found

    def _killed(self, whole: RunDir, ended: list[Ended]) -> Iterator[RunDir]:
        record = read_record(whole.record)
        positions = whole.checkpoints.positions()
        if record.outcome.state != FINISHED:
            ended.append(Ended(verdict=BROKEN, why=f"{record.outcome.message} {record.outcome.traceback or ''}"))
        elif record.resumable is None or not record.resumable.resumable:
            ended.append(Ended(verdict=REFUSED, why="; ".join(record.resumable.reasons if record.resumable else ())))
        else:
            for position in {positions[1], positions[-2]}:
                killed = _as_if_killed_right_after(whole, position, self.folder / "killed" / position.name)
                yield self._planned(killed, replace(self._spec_of(whole), checkpoint_every=record.retention.every))

    def _carry_out(self, name: str, runs: Sequence[RunDir]) -> None:
        """Have all these runs trained, by one process that forks."""
        listed, scratch = self.folder / f"{name}.json", self.folder / name
        scratch.mkdir()
        listed.write_text(json.dumps([str(run.path) for run in runs]))
        spec = RunConfig(script=listed, runs=self.folder, runtime="venv", lock=self.lock)
        context = staged_context(project_kind(spec, Target(python=this_interpreter().minor)))
        python, source = locked_python(context), context / "source"
        request = plan_process((), spec.variables, scratch=scratch, python=python, source=source)
        subprocess.run(
            [python, "-P", SCRIPTS / "state_matrix.py", listed],
            env=request.environment,
            cwd=scratch,
            capture_output=True,
            timeout=3000,
            check=True,
        )

    def _resumed(self, case: Case, whole: RunDir) -> RunDir | None:
        """The run that resumes a case as it was when killed, to be trained; None where it has ended already."""
        record = read_record(whole.record)
        if record.outcome.state != FINISHED:
            self.ended[case] = Ended(verdict=BROKEN, why=f"{record.outcome.message} {record.outcome.traceback or ''}")
            return None
        epoch = Position(phase=case.phase, epoch=1 if case.phase else 2)
        if epoch not in whole.checkpoints.positions():
            reasons = record.resumable.reasons if record.resumable else ()
            verdict = REFUSED if reasons else BROKEN
            self.ended[case] = Ended(verdict=verdict, why="; ".join(reasons) or f"no checkpoint {epoch}")
            return None
        killed = _as_if_killed_right_after(whole, epoch, self.folder / "killed")
        try:
            return self._planned(killed, self._spec_of(whole))
        except SamebitsError as error:
            self.ended[case] = Ended(verdict=REFUSED, why=str(error))
            return None

    def _spec_of(self, whole: RunDir) -> RunConfig:
        runs = self.folder / "runs"
        return RunConfig(
            script=whole.code / "train.py",
            runs=runs,
            runtime="venv",
            keep="all",
            lock=self.lock,
            ignore_outputs=KNOWN_LOGS,
        )

    def _planned(self, killed: RunDir, spec: RunConfig) -> RunDir:
        """What `samebits resume` makes of a killed run, up to the start of its process."""
        report = Report(spec=spec, available_runtime=choose_runtime(spec))
        with (
            patch.object(host_resume, "_preflight_exactly", lambda *_, **__: report),
            patch.object(host_resume, "execute", lambda planned, *_, **__: (publish(planned)[0], 0)),
        ):
            return host_resume.resume(killed, RerunRequest(runs=spec.runs), self.options)[0]


def _as_if_killed_right_after(whole: RunDir, position: Position, folder: Path) -> RunDir:
    """A copy of a finished run as a kill right after a checkpoint leaves it: no later line, and no later refusal."""
    killed = as_if_killed_after(whole, position, folder)
    (killed.checkpoints.folder / "refused.json").unlink(missing_ok=True)
    lines = killed.ledger.read_bytes().splitlines(keepends=True)
    killed.ledger.write_bytes(b"".join(lines[: killed.checkpoints.read(position).lines]))
    # The process that published it is this one, which lives.
    write_record(killed.record, replace(killed.read(), resumable=None, host=None))
    return killed


def judged(whole: RunDir, resumed: RunDir) -> Ended:
    """Whether a resumed run reached the bits of the whole one."""
    record = read_record(resumed.record)
    if record.outcome.state != FINISHED:
        refused = record.outcome.traceback is None and record.outcome.message
        return Ended(verdict=REFUSED if refused else BROKEN, why=record.outcome.message or f"{record.outcome}")
    differing = "; ".join(_differing(whole, resumed))
    return Ended(verdict=WRONG if differing else SAME, why=differing)


def _differing(whole: RunDir, resumed: RunDir) -> Iterator[str]:
    if read_record(whole.record).result != read_record(resumed.record).result:
        yield "the result differs"
    if whole.ledger.read_bytes() != resumed.ledger.read_bytes():
        yield "the ledger differs"
