"""Train one member of a sweep: what a process of this machine, or a node of a cluster, does."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from samebits.core.errors import ImageError
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import PlannedRun, plan_run
from samebits.host.cluster.worker_tasks import require_recipe
from samebits.host.launch.runtime import Runtime, choose_runtime
from samebits.host.launch.train import execute
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.resume import ResumeOptions, resume
from samebits.host.rerun.segment_worker import stoppable
from samebits.host.subprocesses import Streams
from samebits.host.sweep.sweep_file import SweepDir
from samebits.host.trust import note_trained


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberJob:
    """One member to train, or whose run to resume. It can be pickled."""

    sweep: Path
    number: int
    planned: PlannedRun
    resumes: Path | None = None


def train_member(job: MemberJob) -> None:
    """Train a member silently, or resume its run; the runs that this began are noted in the sweep's folder."""
    with _silence() as streams:
        runtime = choose_runtime(job.planned.spec)
        if (runtime.setup.image, runtime.setup.device) != (job.planned.setup.image, job.planned.setup.device):
            raise ImageError("the image is another one than at the beginning of the sweep; give each image its own tag")
        _train(job, job.planned, runtime, streams)


def train_on_node(job: MemberJob) -> None:
    """The same on a node, which plans the run itself: it may see other data, or have another CPU."""
    with _silence() as streams:
        runtime = choose_runtime(job.planned.spec, job.planned.recipe.image)
        planned = plan_run(job.planned.spec, replace(runtime.setup, git=job.planned.setup.git))
        require_recipe(job.planned.recipe, planned.recipe, "this node")
        _train(job, planned, runtime, streams)


@contextmanager
def _silence() -> Iterator[Streams]:
    """Discard what the launcher and the script print: the run's log keeps it."""
    with ExitStack() as stack:
        stack.enter_context(stoppable())
        null = stack.enter_context(open(os.devnull, "wb"))
        stack.enter_context(redirect_stderr(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        yield Streams(out=null, err=null)


def _train(job: MemberJob, planned: PlannedRun, runtime: Runtime, streams: Streams) -> None:
    folder = SweepDir(job.sweep)

    def note(run: RunDir) -> None:
        folder.note_attempt(job.number, run)

    if job.resumes is None:
        execute(replace(planned, started=datetime.now(UTC)), runtime, streams, begun=note)
        return
    if not runtime.isolated:
        # This launcher is about to train the same recipe here: whether by resuming makes no difference.
        note_trained(planned.recipe, RunDir(job.resumes))
    request = RerunRequest(runs=folder.runs, streams=streams, data=planned.spec.data)
    resume(RunDir(job.resumes), request, ResumeOptions(), note)
