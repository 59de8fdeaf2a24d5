"""A run in a container, whose record and ledger the launcher keeps where the container cannot write.

The runner in the container writes into a folder of its own (`staging`). The launcher takes over each line of the ledger
as it comes, and the rest once no process of the container is left: it measures the files, and writes the record from
its own plan and from what the runner reported.
"""

import time
from contextlib import suppress
from dataclasses import replace

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, RecordError
from samebits.core.ledger import is_alive
from samebits.core.origin import Origin
from samebits.core.record import FAILED, FINISHED, LedgerEnd, Outcome, Record, read_record
from samebits.core.result import LAUNCHER, Measured
from samebits.core.run_dir import RunDir
from samebits.host.console import log
from samebits.host.launch.ledger_keeper import Follower, LedgerKeeper
from samebits.host.launch.measurement import measure
from samebits.host.launch.staging import has_staging, make_staging, remove_staging, take_image, take_results

_WAIT_SECONDS = 20.0  # for a container whose engine went away: its watcher ends it within ten
_POLL_SECONDS = 0.2


class KeptRun:
    """One published run, from before its container starts until its record is written."""

    def __init__(self, folder: RunDir, published: Record) -> None:
        self._folder = folder
        self._published = published
        self._keeper: LedgerKeeper | None = None
        self._end: LedgerEnd | None = None
        self._ledger_problem: str | None = None
        self._follower: Follower | None = None
        self._looks_for_image = True
        self._written = False

    def begin(self) -> None:
        """Make the container's folder, and follow what comes; raises StorageError."""
        make_staging(self._folder)
        self._open()
        self._follower = Follower(self._step)

    def _open(self) -> None:
        inside = RunDir(self._folder.staging)
        # A run that is adopted may have anything in its place; then no line is taken.
        with suppress(OSError):
            self._keeper = LedgerKeeper(inside.ledger, self._folder.ledger, self._published.recipe.digest)

    def _step(self) -> None:
        if self._keeper is not None:
            self._keeper.take()
        # What is wrong with it is reported at the end.
        self._looks_for_image = self._looks_for_image and self._image_problem() is None

    def _image_problem(self) -> str | None:
        """Take over what the image was built from, where it is there; returns why that cannot be."""
        try:
            take_image(self._folder, self._published.recipe.image)
        except (ImageError, RecordError) as error:
            return str(error)
        return None

    def conclude(self, status: int | None = None) -> None:
        """Take over what the container left, and finalize the record where the runner reported an end.

        `status` is the container's, where it is known. Raises StorageError, or RecordError while a process is left.
        """
        if not has_staging(self._folder):
            return
        if not self._written:
            self._write(status)
        remove_staging(self._folder)

    def _write(self, status: int | None) -> None:
        _wait_for_the_end(self._folder)
        problem = self._take()
        report = self._report()
        record = self._composed(report, problem, status)
        if record.finalized:
            self._finalize(record)
        else:
            self._folder.update(record, record.version)
        self._written = True

    def _take(self) -> str | None:
        """Take over ledger, image and results; returns what is wrong with them."""
        if self._follower is not None:
            self._follower.stop()
        self._take_ledger()
        problem = self._ledger_problem or self._image_problem()
        take_results(self._folder)
        return problem

    def _take_ledger(self) -> None:
        """Take over the rest of the ledger, once: `conclude` may be called again after an error or a signal."""
        if self._keeper is None and self._end is None:
            self._open()
        if self._keeper is not None:
            self._keeper.take()
            self._end, self._ledger_problem = self._keeper.end, self._keeper.problem
            closing, self._keeper = self._keeper, None
            closing.close()

    def _report(self) -> Record | None:
        """The runner's record; None where there is no usable one."""
        try:
            return read_record(RunDir(self._folder.staging).record, within=self._folder.staging)
        except RecordError as error:
            log(f"what the run's process reported cannot be read: {error}")
            return None

    def _composed(self, report: Record | None, problem: str | None, status: int | None) -> Record:
        """The record: the plan is the launcher's, what was observed the process's, the ledger's end as it was kept."""
        if report is None:
            return self._published
        record = _with_plan(report, self._published)
        if not record.finalized:
            return record
        problem = problem or _contradiction(record, status) or self._unended(record)
        if problem is None and record.ledger != self._end:
            problem = "the ledger does not end where the run's process says"
        record = replace(record, ledger=self._end, measured=Measured(by=LAUNCHER))
        return record if problem is None else _refused(record, problem)

    def _unended(self, record: Record) -> str | None:
        """Why the results of a finished run could still change: by a worker's container on another node."""
        deadline = time.monotonic() + _WAIT_SECONDS
        workers = range(1, record.recipe.world_size if record.outcome.state == FINISHED else 0)
        while left := [index for index in workers if self._folder.worker_entrance(index).exists()]:
            if time.monotonic() > deadline:
                return f"the container of worker {left[0]} may still run, and could change what the run left"
            time.sleep(_POLL_SECONDS)
        return None

    def _finalize(self, record: Record) -> None:
        known: dict[str, Digest] = {}
        if record.result is not None:
            try:
                measured, known = measure(self._folder, record.recipe, record.result)
                record = replace(record, measured=measured)
            except RecordError as error:
                record = _refused(record, str(error))
        # The record of an older runner keeps its version: that runner reads it when the run is trained again.
        written = self._folder.finalize_or_beside(record, known, record.version)
        if written != self._folder.record:
            log(f"another process declared this run ended while it was running; how it ended is in {written}")


def adopt(folder: RunDir, record: Record) -> Record:
    """Take over what a run left whose launcher died; returns its record, which is finalized if the run had ended."""
    KeptRun(folder, record).conclude()
    return read_record(folder.record)


def _wait_for_the_end(folder: RunDir) -> None:
    """Raise RecordError where a process of the run still holds its ledger."""
    ledger, deadline = RunDir(folder.staging).ledger, time.monotonic() + _WAIT_SECONDS
    while is_alive(ledger):
        if time.monotonic() > deadline:
            raise RecordError(f"a process of the run still writes to {folder.staging}; end its container first")
        time.sleep(0.05)


def _with_plan(report: Record, published: Record) -> Record:
    """What was reported, with everything that the launcher has planned in its place."""
    seen, planned = report.environment, published.environment
    environment = replace(
        seen, runtime=planned.runtime, engine=planned.engine, image=planned.image, image_note=planned.image_note
    )
    return replace(
        report,
        id=published.id,
        level=published.level,
        recipe=published.recipe,
        started=published.started,
        trace=published.trace,
        retention=published.retention,
        strict=published.strict,
        trial=published.trial,
        exclude=published.exclude,
        origin=_origin(report.origin, published.origin),
        environment=environment,
        host=published.host,
        files=None,
    )


def _origin(reported: Origin, planned: Origin) -> Origin:
    """The planned origin; whether a checkpoint was reproduced is the process's word."""
    if planned.resumes is None or reported.resumes is None:
        return planned
    return replace(planned, resumes=replace(planned.resumes, reproduced=reported.resumes.reproduced))


def _contradiction(record: Record, status: int | None) -> str | None:
    """Why a report cannot be true."""
    if record.outcome.state == FINISHED and record.result is None:
        return "the run's process reported an end without a result"
    if record.outcome.state == FINISHED and status not in (0, None):
        return f"the run's process reported that it finished, and ended with status {status}"
    return None


def _refused(record: Record, problem: str) -> Record:
    """The record of a run whose report is not believed."""
    log(problem)
    return replace(record, outcome=Outcome(state=FAILED, message=problem), result=None, coverage=None)
