"""Trainings by samebits's own launcher and runner, in the environment that `join` made, on its GPU or on the CPU."""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import SIGKILL
from typing import Any

from samebits.core.environment import Environment
from samebits.core.gpu_info import GpuReport
from samebits.core.recipe import Device, ImageIdentity
from samebits.core.record import Record, read_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import RunSetup, plan_run
from samebits.host.audit.checkpoint_audit import CheckpointAudit
from samebits.host.image.build_context import CPU, GPU, ImageKind, source_digest, staged_context
from samebits.host.launch.runtime import Runtime
from samebits.host.launch.train import execute
from samebits.host.launch.venv import plan_process
from samebits.host.rerun.resume import plan_resumption
from samebits.host.subprocesses import Streams, start

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).with_name("scripts")
_POLL = 0.05  # seconds


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where trainings run: the environment's Python, a folder to write to, and the GPUs (none: on the CPU).

    `variables` are added to each process; `lock` tells which one the environment was made from.
    """

    python: Path
    folder: Path
    gpus: GpuReport = field(default_factory=GpuReport)
    variables: Mapping[str, str] = field(default_factory=dict)
    kind: ImageKind = GPU

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU to train on."""
        return bool(self.gpus.gpus)

    def spec(self, script: Path, *arguments: str, **options: Any) -> RunConfig:
        """A run of a script, on the first GPU where there is one."""
        gpus = "1" if self.on_gpu else None
        return RunConfig(
            script=script,
            arguments=arguments,
            runs=self.folder / "runs",
            **({"gpus": gpus, "runtime": "venv"} | options),
        )

    @property
    def runtime(self) -> Runtime:
        """What executes a run: the runner in the assembled environment, as `samebits train` starts it in another."""
        version = _output([str(self.python), "-c", "import platform; print(platform.python_version())"])
        identity = ImageIdentity(lock=self.kind.lock_digest, source=source_digest(self.kind), python=version)
        major, minor = map(int, version.split(".")[:2])
        setup = RunSetup(
            image=identity,
            device=self.gpus.device(1) if self.on_gpu else Device(),
            environment=Environment(runtime="venv", image_note="assembled by tools/gpu from the GPU image's lock"),
            python=(major, minor),
        )

        def run(folder: RunDir, spec: RunConfig, streams: Streams) -> int:
            variables = dict(spec.variables)
            if spec.data is not None:
                variables["SAMEBITS_DATA"] = str(spec.data.resolve())
            return self._start(("--run", str(folder.path.resolve())), variables, streams)

        def query(_words: tuple[str, ...], _variables: Mapping[str, str]) -> tuple[int, str]:
            raise NotImplementedError("the proof computes no fingerprint in this way")

        return Runtime(setup=setup, prepare=lambda: None, run=run, query=query, isolated=False)

    def _start(self, words: tuple[str, ...], variables: Mapping[str, str], streams: Streams) -> int:
        source = staged_context(self.kind).resolve() / "source"
        with tempfile.TemporaryDirectory(prefix="samebits-") as scratch:
            request = plan_process(words, variables, scratch=Path(scratch), python=self.python, source=source)
            environment = {**request.environment, **self.variables}
            with start(request.command, environment=environment, folder=request.folder, streams=streams) as process:
                return process.wait()

    def train(self, spec: RunConfig, seconds: float = 600) -> tuple[RunDir, Record]:
        """Train once; the output goes into the folder's log. A training that takes longer than `seconds` is killed."""
        return self._execute(spec, self.runtime, kill_after=None, seconds=seconds)

    def train_and_kill(self, spec: RunConfig, lines: int, seconds: float = 600) -> tuple[RunDir, Record]:
        """Train, and kill the training (SIGKILL) once its ledger has so many lines."""
        return self._execute(spec, self.runtime, kill_after=lines, seconds=seconds)

    def resume(self, run: RunDir, spec: RunConfig) -> tuple[RunDir, Record]:
        """Resume a run that was killed, with the proof of its last checkpoint."""
        record, runtime = run.read(), self.runtime
        resumption = plan_resumption(run, record, CheckpointAudit.of(run, record))
        setup = replace(runtime.setup, resumes=resumption)
        return self._execute(spec, replace(runtime, setup=setup), kill_after=None, seconds=600)

    def _execute(
        self, spec: RunConfig, runtime: Runtime, *, kill_after: int | None, seconds: float
    ) -> tuple[RunDir, Record]:
        ended = threading.Event()

        def watch(folder: RunDir) -> None:
            threading.Thread(target=_kill, args=(folder, kill_after, seconds, ended), daemon=True).start()

        with (self.folder / "trainings.log").open("ab") as log:
            try:
                folder, _ = execute(plan_run(spec, runtime.setup), runtime, Streams(out=log, err=log), begun=watch)
            finally:
                ended.set()
        return folder, folder.read()

    def call(self, script: str, *arguments: str, seconds: float, **variables: str) -> dict[str, Any]:
        """Run a script of this folder in the environment; returns the JSON of its last line."""
        source = staged_context(self.kind).resolve() / "source"
        with tempfile.TemporaryDirectory(prefix="samebits-") as scratch:
            request = plan_process((), variables, scratch=Path(scratch), python=self.python, source=source)
            done = subprocess.run(
                [str(self.python), "-P", str(SCRIPTS / script), *arguments],
                env={**request.environment, **self.variables},
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        lines = done.stdout.splitlines()
        if done.returncode or not lines:
            raise RuntimeError(f"{script} ended with status {done.returncode}: {done.stderr[-2000:]}")
        return dict(json.loads(lines[-1]))


def _kill(folder: RunDir, lines: int | None, seconds: float, ended: threading.Event) -> None:
    """Kill the training of a run after so many lines of its ledger, or after that time."""
    deadline = time.monotonic() + seconds
    while not ended.wait(_POLL):
        enough = lines is not None and folder.ledger.read_bytes().count(b"\n") >= lines
        if enough or time.monotonic() > deadline:
            host = read_record(folder.record).host
            if host is not None and host.training is not None:
                os.kill(host.training.pid, SIGKILL)
                return


def _output(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def kind_of(lock: str) -> ImageKind:
    """The kind of image whose lock has that digest; the CPU's serves to try the kit where there is no GPU."""
    kinds = {kind.lock_digest.hex: kind for kind in (GPU, CPU)}
    if lock not in kinds:
        raise ValueError("the environment was made from another lock than this checkout's; pack and join again")
    return kinds[lock]
