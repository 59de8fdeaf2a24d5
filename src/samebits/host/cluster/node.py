"""What a node does with a job: check that it makes the submitted recipe, then train, or resume the last attempt."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from samebits.core.errors import EXIT_DIFFERENT, EXIT_OK, EXIT_TERMINATED, InputError, SamebitsError, Terminated
from samebits.core.jsonio import parse_digits
from samebits.core.liveness import ALIVE, DEAD, HELD, UNKNOWN
from samebits.core.record import Record, read_record
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import PlannedRun, plan_run
from samebits.host.audit.checkpoint_audit import why_not_resumable
from samebits.host.cluster.batch_script import RESTARTS
from samebits.host.cluster.job_dir import MAX_ATTEMPTS, Job, JobDir, JobEnd, last_attempt
from samebits.host.cluster.pod_job import ADDRESS_VARIABLE, INDEX_VARIABLE, NODE_VARIABLE
from samebits.host.cluster.schedulers import Scheduler, scheduler_of
from samebits.host.cluster.worker_tasks import lost_a_worker, require_recipe
from samebits.host.console import log, print_line
from samebits.host.launch.runtime import Runtime
from samebits.host.launch.train import execute
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.resume import ResumeOptions, resume, with_training
from samebits.host.runs.attempts import is_settled
from samebits.host.trust import note_trained

POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """Where this attempt runs, as the cluster says: the id of the job on Slurm, and the name of the node.

    A pod of several workers has an index and an address. `restarts` is how often Slurm had started the job before.
    """

    job: str
    name: str
    index: int | None = None
    address: str = ""
    restarts: int = 0

    @classmethod
    def here(cls) -> "Node":
        """From the variables of Slurm, or of a pod's manifest."""
        name = os.environ.get("SLURMD_NODENAME") or os.environ.get(NODE_VARIABLE) or os.uname().nodename
        index = parse_digits(os.environ.get(INDEX_VARIABLE, ""))
        address = os.environ.get(ADDRESS_VARIABLE, "")
        restarts = parse_digits(os.environ.get(RESTARTS, "")) or 0
        return cls(job=os.environ.get("SLURM_JOB_ID", ""), name=name, index=index, address=address, restarts=restarts)


def run_job(folder: JobDir, node: Node) -> int:
    """Train a job on this node; returns the exit status, which the job's folder keeps with the message.

    After SIGTERM the job is requeued, unless it was cancelled: another attempt resumes it.
    """
    job = folder.read()
    scheduler = scheduler_of(job)
    if not scheduler.RUNS_AGAIN and (known := folder.read_end()) is not None:
        return known.status
    # What an earlier attempt left says nothing about this one.
    folder.end.unlink(missing_ok=True)
    try:
        run, status = _attempt(folder, job, node)
        if lost_a_worker(run) and len(folder.attempts()) < MAX_ATTEMPTS:
            _start_again(folder, scheduler, node)
            # On Slurm, this process is ended now. An end of a job that does not run again would be final.
            if not (scheduler.RUNS_AGAIN or folder.cancelled.exists()):
                return EXIT_TERMINATED
    except Terminated:
        _start_again(folder, scheduler, node)
        raise
    except SamebitsError as error:
        folder.write_end(JobEnd(status=error.exit_status, message=str(error)))
        raise
    return _conclude(folder, run, status)


def _conclude(folder: JobDir, run: RunDir, status: int) -> int:
    """Write the end of this attempt; returns its exit status."""
    mine = run.read()
    end = JobEnd(status=status, message=mine.outcome.message, run=run.path.name)
    # Where this node was declared dead, and a later attempt has begun, that one's end counts.
    if not _is_followed(folder, run):
        folder.write_end(end)
    # After the writing: of two attempts that end together, one sees the other's result.
    if (differs := _difference(folder, mine)) is not None:
        end = JobEnd(status=EXIT_DIFFERENT, message=differs, run=run.path.name)
        folder.write_end(end)
    if end.status and end.message:
        log(end.message)
    return end.status


def _attempt(folder: JobDir, job: Job, node: Node) -> tuple[RunDir, int]:
    print_line(f"job {folder.path.name} on {node.name}", flush=True)
    scheduler = scheduler_of(job)
    runtime = scheduler.runtime(job)
    spread = scheduler.spread(folder, job, node) if job.config.workers > 1 else _alone
    earlier = tuple(run.path.name for run in folder.attempts())
    planned = plan_run(job.config, replace(runtime.setup, git=job.git, attempts=earlier))
    require_recipe(job.recipe, planned.recipe, f"the node {node.name}")
    last = last_attempt(folder, job.recipe)
    if last is None:
        return _train(folder, planned, spread(runtime))
    _wait_for_end(last, scheduler.PATIENCE_SECONDS)
    record = last.read()
    if is_settled(record):
        return last, record.outcome.exit_status or EXIT_OK
    return _continue(folder, planned, runtime, last, record, spread)


def _alone(runtime: Runtime) -> Runtime:
    return runtime


def _start_again(folder: JobDir, scheduler: Scheduler, node: Node) -> None:
    if not folder.cancelled.exists():
        scheduler.requeue(folder, node)


def _wait_for_end(last: RunDir, seconds: float) -> None:
    """Give the attempt before some time to end: a cluster may begin this one as soon as it stops that."""
    deadline = time.monotonic() + seconds
    while (record := read_record(last.record)) and not record.finalized and last.liveness(record) != DEAD:
        if time.monotonic() > deadline:
            return
        time.sleep(POLL_SECONDS)


def _train(folder: JobDir, planned: PlannedRun, runtime: Runtime) -> tuple[RunDir, int]:
    return execute(replace(planned, started=datetime.now(UTC)), runtime, begun=folder.note_attempt)


def _continue(
    folder: JobDir,
    planned: PlannedRun,
    runtime: Runtime,
    last: RunDir,
    record: Record,
    spread: Callable[[Runtime], Runtime],
) -> tuple[RunDir, int]:
    """Resume the last attempt where that is exact, else train from the start."""
    liveness = "" if read_record(last.record).finalized else last.liveness(record)
    if liveness in {ALIVE, HELD}:
        # The cluster declared its node dead, and it trains all the same. Nothing of it is touched.
        log(f"the attempt {record.id} still runs; this attempt starts over, and their results are compared")
        return _train(folder, planned, spread(runtime))
    # The cluster has started the job again: that declares an attempt ended which cannot be seen from here.
    declared = liveness == UNKNOWN
    if not declared:
        last, record = with_training(last, record)
    reason = None if declared else why_not_resumable(last, record)
    if reason is not None:
        log(f"the attempt {record.id} cannot be resumed: {reason}; this attempt starts over")
        return _train(folder, planned, spread(runtime))
    if not runtime.isolated:
        # This launcher is about to train the same recipe here: whether by resuming makes no difference.
        note_trained(planned.recipe, last)
    request = RerunRequest(
        runs=folder.runs,
        data=planned.spec.data,
        attempts=planned.setup.attempts,
        adapt=spread,
        inside=runtime if planned.setup.environment.in_container else None,
    )
    try:
        return resume(last, request, ResumeOptions(ended=declared), folder.note_attempt)
    except InputError as error:
        log(f"{error}; this attempt starts over")
        return _train(folder, planned, spread(runtime))


def _is_followed(folder: JobDir, run: RunDir) -> bool:
    """Whether a later attempt has begun: its record names the earlier ones."""
    records = [read_record(other.record) for other in folder.attempts() if other.record.exists()]
    return any(run.path.name in record.origin.attempts for record in records)


def _difference(folder: JobDir, mine: Record) -> str | None:
    """What is wrong where two attempts have results, and not the same."""
    for other, record in _results(folder):
        if mine.result_digest is not None and record.result_digest != mine.result_digest:
            return f"the attempts {mine.id} and {other.path.name} have one recipe and two results; rely on neither"
    return None


def _results(folder: JobDir) -> Iterator[tuple[RunDir, Record]]:
    """Every record of an attempt with a result, also of one that went on after it was declared ended."""
    for run in folder.attempts():
        for path in (run.record, *run.late_records()) if run.record.exists() else ():
            record = read_record(path)
            if record.result is not None:
                yield run, record
