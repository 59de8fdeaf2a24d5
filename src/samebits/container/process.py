"""The process around the script: its output kept in a file, signals, and the line that ties it to its launcher."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from samebits.codec import storage_error
from samebits.errors import Terminated
from samebits.tree import Progress

_GRACE = 10.0  # seconds between the launcher's end and ours
_PATIENCE_FOR_A_STEP = 5.0  # seconds that SIGTERM waits: about half of what engines and clusters grant
_PATIENCE = 2.0  # seconds before a line of progress
_EVERY = 10.0  # seconds between two of them


@contextmanager
def quiet_import(log: Path) -> Iterator[None]:
    """Keep what C++ libraries print while they are imported off the screen, and in the log."""
    with _opened(log) as target:
        saved = os.dup(2)
        os.dup2(target, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextmanager
def kept_output(log: Path) -> Iterator[None]:
    """Copy all that goes to stdout and stderr, from Python or below, into `log` as well.

    `tee` processes do it, not threads: a library that prints while it holds the interpreter's lock must not wait.
    """
    with _opened(log):
        pass
    saved = [os.dup(number) for number in (1, 2)]
    tees = [_tee(log, number) for number in (1, 2)]
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in zip((1, 2), saved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        for tee in tees:
            try:
                tee.wait(5)  # a process the script left behind may hold the pipe open
            except subprocess.TimeoutExpired:
                tee.kill()


def _tee(log: Path, number: int) -> subprocess.Popen[bytes]:
    """Put a `tee` between descriptor `number` and where it went; it outlives Ctrl-C, and a reader that goes away."""
    tee = subprocess.Popen(["tee", "-i", "-p", "-a", str(log)], stdin=subprocess.PIPE, stdout=number, close_fds=True)
    pipe = tee.stdin
    if pipe is None:
        raise RuntimeError("a pipe was asked for")
    os.dup2(pipe.fileno(), number)
    pipe.close()
    return tee


@contextmanager
def _opened(log: Path) -> Iterator[int]:
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_error(error, log) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Signals:
    """Ctrl-C and SIGTERM as exceptions in the script; remembered, as a script may catch them.

    Where a checkpoint can be written after the step that goes on, SIGTERM waits for that, but not for long.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._can_wait: Callable[[], bool] = lambda: False
        self._waiting = False

    def listen(self) -> None:
        """Take both over."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._arrived)

    def wait_where(self, can_wait: Callable[[], bool]) -> None:
        """SIGTERM waits where this says so, until `again` is called, or a few seconds at most."""
        self._can_wait = can_wait

    def waits(self) -> bool:
        """Whether a SIGTERM waits."""
        return self._waiting

    def again(self) -> None:
        """Raise once more what arrived, where it waited or a library swallowed it; asked at the end of every epoch."""
        if self._waiting:
            self._waiting = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if self.received is not None:
            self._raise(self.received)

    def ignore(self) -> None:
        """From here on the record is being sealed, and nothing may come between."""
        if self._waiting:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGTERM and not self._waiting and self._can_wait() and _alarm_is_free():
            self._waiting = True
            signal.signal(signal.SIGALRM, lambda *_: self.again())
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE_FOR_A_STEP)
            return
        self._raise(number)

    def _raise(self, number: int) -> NoReturn:
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _alarm_is_free() -> bool:
    """Whether the script uses no alarm of its own."""
    unused = signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, None)
    return unused and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def tie_to_launcher() -> None:
    """End this process when the launcher, which holds the other end of our standard input, is gone.

    The script gets an empty standard input. First comes SIGTERM, so that the record is sealed; after a while the end. A
    process of its own sees to it, as a script may hold the interpreter's lock for as long as it likes.
    """
    ourselves = os.pidfd_open(os.getpid())  # a number could be another process's by then
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WATCHER, str(ourselves), str(_GRACE)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[ourselves],
        start_new_session=True,
    )
    os.close(ourselves)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)


_WATCHER = """
import os, select, signal, sys
process, grace = int(sys.argv[1]), float(sys.argv[2])
while select.select([0, process], [], [])[0] != [process]:
    if not os.read(0, 1024):
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], grace)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        break
"""


def say(what: str) -> None:
    """A line of ours on stderr, beside what the script prints."""
    print(f"samebits: {what}", file=sys.stderr)


def plain_progress(what: str) -> Progress:
    """A line on stderr now and then, from the second second on."""
    shown = time.monotonic() - _EVERY + _PATIENCE

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > _EVERY:
            shown = time.monotonic()
            say(f"{what}, {done / 2**30:.1f} of {total / 2**30:.1f} GiB")

    return progress
