"""An executor whose jobs are the tasks of one Slurm job array: for the segments of a verification.

A task is a function and its argument, pickled into a folder of this user's, and answered by a file beside it.
"""

import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.core.errors import SamebitsError, ToolError
from samebits.core.jsonio import write_atomically
from samebits.core.run_config import CONTAINER
from samebits.host.cache_dir import read_own
from samebits.host.cluster import slurm
from samebits.host.cluster.batch_script import NOT_BEGUN, TASK, batch_script, output_pattern
from samebits.host.cluster.patience import Patience

POLL_SECONDS = 2.0  # between two questions to Slurm about all tasks
_MOST_BYTES = 1 << 30
_LAST_WORDS_SECONDS = 10.0  # that a file of another machine may take to appear on a shared file system


@dataclass(slots=True)
class ArrayExecutor:
    """Collects tasks, and submits those that wait as one array as soon as an answer is asked for."""

    folder: Path
    flags: Sequence[str] = ()
    runtime: str = CONTAINER
    _tasks: list["ArrayAnswer"] = field(default_factory=list)
    patience: Patience = field(default_factory=Patience)

    def submit(self, function: Callable[..., Any], argument: Any, /) -> "ArrayAnswer":
        """Take a task, to be called at some later time."""
        answer = ArrayAnswer(self, len(self._tasks))
        self._tasks.append(answer)
        write_atomically(answer.task, pickle.dumps((function, argument)), mode=0o600)
        return answer

    def send(self) -> None:
        """Submit what waits. The tasks of one array have numbers in a row, as those before them were sent."""
        waiting = [answer for answer in self._tasks if answer.job is None]
        if not waiting:
            return
        # A task that began twice would find the run of its first attempt: a lost one is an error instead.
        flags = (f"--output={output_pattern(self.folder)}/%a.log", "--no-requeue")
        script = self.folder / f"batch-{waiting[0].number}.sh"
        words = ("--task", str(self.folder))
        text = batch_script(needs=waiting[0].task, flags=flags, arguments=words, runtime=self.runtime)
        write_atomically(script, text.encode(), mode=0o755)
        tasks = f"{waiting[0].number}-{waiting[-1].number}"
        job = slurm.submit(script, (*self.flags, f"--array={tasks}"))
        for answer in waiting:
            answer.job = f"{job}_{answer.number}"

    def cancel(self) -> None:
        """Cancel every task without an answer."""
        for answer in self._tasks:
            if answer.job is not None and not answer.file.exists():
                with suppress(ToolError):
                    slurm.cancel(answer.job)


@dataclass(slots=True, eq=False)
class ArrayAnswer:
    """What a task will give; `job` is its id in Slurm, once it was submitted."""

    executor: ArrayExecutor
    number: int
    job: str | None = None
    _asked: float = 0.0
    _gone: float | None = None
    _lost: str = ""

    @property
    def task(self) -> Path:
        """The pickled function and argument."""
        return self.executor.folder / f"{self.number}.task"

    @property
    def file(self) -> Path:
        """The pickled result, or the error."""
        return self.executor.folder / f"{self.number}.answer"

    def done(self) -> bool:
        """Whether the task has ended, or Slurm does not run it any more."""
        self.executor.send()
        if self.file.exists() or self._lost:
            return True
        now = time.monotonic()
        if now - self._asked < POLL_SECONDS:
            return False
        self._asked = now
        with self.executor.patience.around():
            self._ask(now)
        return bool(self._lost)

    def _ask(self, now: float) -> None:
        if slurm.active(str(self.job)) is not None:
            self._gone = None
        elif self._gone is None:
            self._gone = now
        elif now - self._gone > _LAST_WORDS_SECONDS:
            self._lost = self._reason()

    def result(self) -> Any:
        """What the function returned; raises ToolError with the message of its error, or where the task was lost."""
        if not self.file.exists():
            raise ToolError(f"the task {self.job} of the job array was lost: {self._lost or self._reason()}")
        value, error = _unpickled(self.file)
        if error is not None:
            raise ToolError(f"the task {self.job} of the job array: {error}")
        return value

    def _reason(self) -> str:
        known = slurm.ended(str(self.job))
        if known is not None and known.reason in NOT_BEGUN:
            return f"its node does not see {self.executor.folder}"
        return "Slurm no longer knows it" if known is None else f"Slurm says {known.state}, exit code {known.reason}"


@contextmanager
def on_slurm(folder: Path, flags: Sequence[str] = (), *, in_container: bool) -> Iterator[ArrayExecutor]:
    """An executor of tasks on the nodes; what still runs at the end of the body is cancelled.

    Only a task that trains in a container gets what locates its engine.
    """
    executor = ArrayExecutor(folder.absolute(), flags, CONTAINER if in_container else "venv")
    try:
        yield executor
    finally:
        executor.cancel()


def _unpickled(path: Path) -> Any:
    """What this user has pickled; raises ToolError for a file that somebody else could have written."""
    try:
        return pickle.loads(read_own(path, _MOST_BYTES))  # noqa: S301  only this user could write it
    except OSError as error:
        raise ToolError(f"cannot read {path}: {error.strerror}") from error


def run_task(folder: Path) -> int:
    """Call the task of this node, and write its answer; returns the exit status."""
    number = int(os.environ[TASK])
    function, argument = _unpickled(folder / f"{number}.task")
    answer: tuple[Any, str | None]
    try:
        answer = function(argument), None
    except SamebitsError as error:
        answer = None, str(error)
    write_atomically(folder / f"{number}.answer", pickle.dumps(answer), mode=0o600)
    return 0 if answer[1] is None else 2
