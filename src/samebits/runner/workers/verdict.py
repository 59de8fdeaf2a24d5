"""How a run of several workers ends: judged from what the workers report, and from those that die."""

import signal
from contextlib import suppress
from dataclasses import dataclass

from samebits.core.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_SCRIPT_FAILED, EXIT_TERMINATED
from samebits.core.record import FAILED, FINISHED, INTERRUPTED
from samebits.runner.workers.agreement import CHIEF, Agreement, LineReport

WAIT_SECONDS = 2.0
"""What one worker's error leaves the others to report theirs: the first may be only a consequence."""

_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_CURE = "make the model in its scope, or drop --workers"
_NEEDS_ALL = "the run needs all of its workers"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerEnd:
    """How a worker's script ended. `strategies` it made; `shared` says whether it trained variables of one."""

    state: str
    message: str | None = None
    strategies: int = 0
    shared: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The end of the run. Without a `problem` the chief's own outcome stands. What `worker` printed explains it."""

    problem: str | None = None
    state: str = FAILED
    status: int = EXIT_ERROR
    worker: int | None = None


def interruption(number: int) -> Verdict:
    """The end of a run that a signal stops."""
    if number == signal.SIGINT:
        return Verdict(problem="Ctrl-C", state=INTERRUPTED, status=EXIT_INTERRUPTED)
    return Verdict(problem="SIGTERM, or the launcher ended", state=INTERRUPTED, status=EXIT_TERMINATED)


class Jury:
    """Collects what is known of the workers until the verdict is clear."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._agreement = Agreement(workers)
        self._ends: dict[int, WorkerEnd] = {}
        self._verdict: Verdict | None = None
        self._due: float | None = None

    @property
    def ended(self) -> frozenset[int]:
        """The workers whose scripts have ended."""
        return frozenset(self._ends)

    @property
    def finished(self) -> bool:
        """Whether all scripts ran to their ends."""
        states = [end.state for end in self._ends.values()]
        return len(states) == self._workers and set(states) == {FINISHED}

    def report(self, worker: int, report: LineReport) -> None:
        """A worker has written a line of its ledger."""
        if (found := self._agreement.add(worker, report)) is not None:
            self.blame(found)

    def end(self, worker: int, end: WorkerEnd, now: float) -> None:
        """A worker's script has ended."""
        self._ends[worker] = end
        if end.state != FINISHED and self._due is None:
            self._due = now + WAIT_SECONDS

    def died(self, worker: int, status: int) -> None:
        """A worker's process has ended before the verdict, with this status: negative for a signal."""
        number = None
        with suppress(ValueError):
            number = signal.Signals(-status)
        how = f"ended with status {status} before the others" if number is None else f"was killed by {number.name}"
        if number == signal.SIGKILL:
            how += " (by the system because memory ran out, or by someone)"
        state = INTERRUPTED if number in _FROM_OUTSIDE else FAILED
        speaks = worker if state == FAILED else None
        self.blame(f"worker {worker} of {self._workers} {how}; {_NEEDS_ALL}", speaks, state)

    def lost(self, worker: int) -> None:
        """The connection to a worker on another node was closed."""
        if worker not in self._ends:
            problem = f"the connection to worker {worker} of {self._workers} was lost; {_NEEDS_ALL}"
            self.blame(problem, state=INTERRUPTED)

    def blame(self, problem: str, worker: int | None = None, state: str = FAILED) -> None:
        """End the run for this reason, unless there was an earlier one."""
        if self._verdict is None:
            self._verdict = Verdict(problem=problem, state=state, worker=worker)

    def verdict(self, now: float) -> Verdict | None:
        """The verdict; None while it is open."""
        all_ended = len(self._ends) == self._workers
        if self._verdict is None and self._due is not None and (all_ended or now >= self._due):
            self._verdict = self._of_failed()
        if self._verdict is None and all_ended:
            self._verdict = self._of_finished()
        return self._verdict

    def _of_failed(self) -> Verdict:
        """The verdict where a script did not finish: its own outcome if it is the chief's, or the same."""
        worker, first = next((worker, end) for worker, end in self._ends.items() if end.state != FINISHED)
        chief = self._ends.get(CHIEF)
        if chief is not None and (worker == CHIEF or (chief.state, chief.message) == (first.state, first.message)):
            return Verdict()
        status = EXIT_SCRIPT_FAILED if first.state == FAILED else EXIT_ERROR
        what = f"worker {worker} of {self._workers}: {first.message}"
        return Verdict(problem=what, state=first.state, status=status, worker=worker)

    def _of_finished(self) -> Verdict:
        if (missing := self._agreement.missing()) is not None:
            return Verdict(problem=missing)
        alone = [worker for worker, end in sorted(self._ends.items()) if not end.strategies]
        if alone:
            return Verdict(problem=_trained_alone(self._workers, "the script makes no MultiWorkerMirroredStrategy"))
        if not all(end.shared for end in self._ends.values()):
            return Verdict(
                problem=_trained_alone(self._workers, "what it trains was not made in the scope of its strategy")
            )
        return Verdict()


def _trained_alone(workers: int, reason: str) -> str:
    return f"each of the {workers} workers trained alone, and the same: {reason}; {_CURE}"
