"""Train a sweep: each member is a run like any other, some at a time, each in a process of its own."""

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from samebits.core.code_tree import describe_code
from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError, SamebitsError, Terminated, ToolError
from samebits.core.jsonio import storage_error
from samebits.core.ledger import is_alive, lock_alive
from samebits.core.record import RUNNING, Record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir, claim
from samebits.core.run_setup import PlannedRun, plan_hashed, plan_run
from samebits.host.audit.checkpoint_audit import why_not_resumable
from samebits.host.cluster.array import on_slurm
from samebits.host.cluster.submission import for_nodes
from samebits.host.console import hashing_progress, log
from samebits.host.data_cache import data_hasher
from samebits.host.inputs.store import provide
from samebits.host.launch.frozen_code import freeze_code, from_frozen
from samebits.host.launch.git_commit import with_commit
from samebits.host.launch.runtime import choose_runtime
from samebits.host.rerun.segment_worker import in_processes
from samebits.host.run_folders import note_begun
from samebits.host.runs.attempts import is_settled, make_attempts
from samebits.host.runs.registry import checksum_of
from samebits.host.sweep.continuation import continued, explain_beginning, plan_of, unfinished_sweeps
from samebits.host.sweep.grid_check import check_grid
from samebits.host.sweep.member_run import MemberJob, train_member, train_on_node
from samebits.host.sweep.members import MAX_RUNS, Grid, Member, members_of
from samebits.host.sweep.sweep_file import (
    PREFIX,
    SWEEPS,
    Sweep,
    SweepDir,
    SweepRun,
    alike_of,
    digest_of,
    groups_of,
    read_sweep,
    write_sweep,
)

_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepOptions:
    """Which runs, and how many of them at a time (None: one, or all on a cluster).

    `flags` are for sbatch; None trains on this machine.
    """

    seeds: tuple[int, ...]
    grid: Grid = field(default_factory=dict)
    jobs: int | None = None
    flags: tuple[str, ...] | None = None

    @property
    def at_once(self) -> int:
        """How many runs are trained at a time."""
        return self.jobs or (1 if self.flags is None else MAX_RUNS)

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise InputError(f"--jobs is a number from 1, not {self.jobs}")


def sweep(spec: RunConfig, options: SweepOptions, report: Callable[[str], object] = log) -> tuple[SweepDir, Sweep]:
    """Train every member and write the summary; continues a sweep of the same recipes that was interrupted.

    `report` gets a line for each run that ends. Raises SamebitsError where a run ended for another reason than its
    script: then the sweep has no summary yet, and can be continued.
    """
    members = members_of(options.seeds, options.grid)
    runtime = choose_runtime(spec)
    with hashing_progress("hashing the data") as progress:
        planned = with_commit(plan_run(spec, runtime.setup, progress, hasher=data_hasher(spec)))
    if note := describe_code(spec, planned.code):
        log(note)
    sources = [spec.code_folder / entry.path for entry in planned.code.entries if entry.path.endswith(".py")]
    check_grid(options.grid, sources)
    # Once, before the processes start: they would all prepare it at the same time.
    runtime.prepare()
    if planned.inputs is not None:
        with hashing_progress("checking the inputs") as progress:
            provide(planned.inputs, progress)
    plans = [_plan(planned, member) for member in members]
    sweeps = unfinished_sweeps(spec.runs)
    folder = continued(sweeps, members, plans)
    if folder is None:
        explain_beginning(sweeps, planned, plans, report)
        folder = _create(planned, members, plans)
    with _worked_on(folder), _continuable(folder):
        return folder, _Training(folder, read_sweep(folder), plans, options, report).finish()


def _plan(planned: PlannedRun, member: Member) -> PlannedRun:
    """The run of one member; code and data were hashed once, for all."""
    spec = planned.spec
    own = replace(spec, seed=member.seed, arguments=(*spec.arguments, *member.arguments))
    return replace(plan_hashed(own, planned.setup, code=planned.code, data=planned.data), converted=planned.converted)


@contextmanager
def _continuable(folder: SweepDir) -> Iterator[None]:
    """Say after Ctrl-C how to continue."""
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        log(f"the same command continues the sweep {folder.path.name}")
        raise


def _create(planned: PlannedRun, members: Sequence[Member], plans: Sequence[PlannedRun]) -> SweepDir:
    """The folder of a new sweep, with its own copy of the code: it may be edited while the sweep lasts."""
    started = datetime.now(UTC)
    recipes = Digest.of_json([str(plan.recipe.digest) for plan in plans])
    # The name of a run, with the digest of all recipes in place of its own.
    stem = planned.name.partition("-")[2].rpartition("-")[0]
    try:
        (planned.spec.runs / SWEEPS).mkdir(exist_ok=True)
        folder = SweepDir(
            claim(planned.spec.runs / SWEEPS, f"{PREFIX}{started:%Y%m%dT%H%M%SZ}-{stem}-{recipes.short}").path
        )
        make_attempts(folder.path)
        folder.lock.touch()
        freeze_code(planned, folder.code)
    except OSError as error:
        raise storage_error(error, planned.spec.runs / SWEEPS) from error
    runs = [SweepRun(member=one, recipe=plan.recipe.digest) for one, plan in zip(members, plans, strict=True)]
    made = Sweep(
        id=folder.path.name,
        started=started.isoformat(timespec="microseconds"),
        script=planned.spec.code.entry,
        arguments=planned.spec.arguments,
        runs=tuple(runs),
    )
    write_sweep(folder, made)
    note_begun(folder.path, plan_of(made))
    return folder


@contextmanager
def _worked_on(folder: SweepDir) -> Iterator[None]:
    """Hold the sweep's lock; raises InputError where another process trains it."""
    if is_alive(folder.lock):
        raise InputError(f"the sweep {folder.path.name} is being trained by another process; wait until that ends")
    lock = lock_alive(folder.lock)
    try:
        yield
    finally:
        os.close(lock)


@dataclass(frozen=True, slots=True)
class _Training:
    folder: SweepDir
    sweep: Sweep
    plans: Sequence[PlannedRun]
    options: SweepOptions
    report: Callable[[str], object]

    def finish(self) -> Sweep:
        """Train what is missing, then write the summary."""
        jobs = deque(filter(None, map(self._job, range(len(self.plans)))))
        done, of = len(self.plans) - len(jobs), len(self.plans)
        self.report(
            f"continuing {self.sweep.id}: {done} of {of} runs have ended" if done else f"{self.sweep.id}: {of} runs"
        )
        self._train(jobs)
        found = [self._ended(number) for number in range(len(self.plans))]
        records = {run.id: record for run, record in found}
        runs = [run for run, _ in found]
        complete = replace(
            self.sweep,
            runs=tuple(runs),
            groups=groups_of(runs, records),
            alike=alike_of(runs),
            digest=digest_of(runs),
        )
        write_sweep(self.folder, complete)
        return read_sweep(self.folder)

    def _train(self, jobs: deque[MemberJob]) -> None:
        """Train some members at a time; the first that ends for want of something keeps the others from starting."""
        if not jobs:
            return
        running: dict[_Answer, int] = {}
        problems: list[str] = []
        with self._executor() as (executor, train):
            while running or (jobs and not problems):
                # Never more than are trained at once: what waits in a pool could not be taken back.
                while jobs and len(running) < self.options.at_once and not problems:
                    job = jobs.popleft()
                    running[executor.submit(train, job)] = job.number
                for answer in _wait(list(running)):
                    left = len(jobs) + len(running) - 1
                    problems += self._problem(answer, running.pop(answer), len(self.plans) - left)
        if problems:
            raise ToolError(f"{problems[0]}; the same command continues the sweep {self.sweep.id}")

    @contextmanager
    def _executor(self) -> Iterator[tuple["_Executor", Callable[[MemberJob], None]]]:
        """What trains, and the function that it calls: in processes of this machine, or on the nodes of a cluster."""
        if self.options.flags is None:
            with in_processes(self.options.at_once) as pool:
                yield pool, train_member
            return
        scratch = Path(tempfile.mkdtemp(dir=self.folder.path, prefix="tasks-"))
        contained = self.plans[0].setup.environment.in_container
        with on_slurm(scratch, self.options.flags, in_container=contained) as array:
            yield array, train_on_node

    def _problem(self, answer: "_Answer", number: int, ended: int) -> list[str]:
        """Report a run that ended, as one of so many; returns why it has no place in a summary."""
        name = str(self.sweep.runs[number].member)
        try:
            answer.result()
        except BrokenProcessPool:
            return [f"{name}: its process was killed"]
        except SamebitsError as error:
            return [f"{name}: {error}"]
        last = self._last(number)
        if last is None or not is_settled(last[1]):
            reason = "no run was begun" if last is None else last[1].outcome.message or last[1].outcome.state
            return [f"{name}: {reason}"]
        run, record = last
        why = "" if record.outcome.message is None else f": {record.outcome.message}"
        how = f"{record.outcome.state} in {record.timings.total or 0.0:.1f} s, {run.path.name}"
        self.report(f"{name}: {how} ({ended} of {len(self.plans)}){why}")
        return []

    def _job(self, number: int) -> MemberJob | None:
        """What is left to do for a member: to train it, to resume its run, or nothing."""
        planned = from_frozen(self.plans[number], self.folder.code)
        if self.options.flags is not None:
            planned = replace(planned, spec=for_nodes(planned.spec, planned.setup))
        job = MemberJob(sweep=self.folder.path.absolute(), number=number, planned=planned)
        last = self._last(number)
        if last is None:
            return job
        run, record = last
        if is_settled(record):
            return None
        if record.outcome.state == RUNNING:
            raise InputError(
                f"the run {record.id} of the sweep may still be running; wait until it has ended, or remove its folder"
                " if its machine is gone"
            )
        reason = why_not_resumable(run, record)
        return job if reason is not None else replace(job, resumes=run.path.absolute())

    def _last(self, number: int) -> tuple[RunDir, Record] | None:
        """The youngest run of a member; raises RecordError for one of another recipe."""
        attempts = [run for run in self.folder.attempts(number) if os.path.lexists(run.record)]
        if not attempts:
            return None
        record = attempts[-1].read()
        if record.recipe.digest != self.plans[number].recipe.digest:
            raise RecordError(f"{attempts[-1].record} has another recipe than the sweep; do not rely on it")
        return attempts[-1], record

    def _ended(self, number: int) -> tuple[SweepRun, Record]:
        """The member with the run that is counted."""
        last = self._last(number)
        if last is None or not is_settled(last[1]):
            raise RecordError(f"{self.sweep.runs[number].member} of {self.sweep.id} has no finished run; run it again")
        run, record = last
        attempts = tuple(attempt.path.name for attempt in self.folder.attempts(number))
        return describe_run(self.sweep.runs[number], run, record, attempts), record


def describe_run(planned: SweepRun, run: RunDir, record: Record, attempts: tuple[str, ...]) -> SweepRun:
    """A member with how its run ended."""
    return replace(
        planned,
        id=run.path.name,
        checksum=checksum_of(run),
        outcome=record.outcome.state,
        message=record.outcome.message,
        result=record.result_digest,
        attempts=attempts,
    )


class _Answer(Protocol):
    """What a member that was submitted will give."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> object:
        """Raise the error that it ended with."""


class _Executor(Protocol):
    """A pool of processes, or a job array."""

    def submit(self, function: Callable[[MemberJob], None], job: MemberJob, /) -> _Answer:
        """Call the function at some later time."""


def _wait(answers: Sequence[_Answer]) -> list[_Answer]:
    """Wait until one has ended; returns all that have."""
    while not (ended := [answer for answer in answers if answer.done()]):
        time.sleep(_POLL_SECONDS)
    return ended
