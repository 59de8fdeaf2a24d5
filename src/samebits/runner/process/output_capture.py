"""Copies what the script prints into a log file."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from samebits.core.jsonio import storage_error


@contextmanager
def kept_output(log: Path) -> Iterator[None]:
    """Also copy stdout and stderr, of Python and of native libraries, into `log`."""
    # The log must be writable before `tee` starts, whose errors nobody would see.
    with log_descriptor(log):
        pass
    saved = [os.dup(number) for number in (1, 2)]
    # Processes, not threads: a library that prints while it holds the interpreter's lock would block forever.
    tees = [_tee(log, number) for number in (1, 2)]
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            # A `tee` that was killed takes nothing more.
            with suppress(OSError):
                stream.flush()
        for number, descriptor in zip((1, 2), saved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        for tee in tees:
            # A process that the script left running may hold the pipe open.
            try:
                tee.wait(5)
            except subprocess.TimeoutExpired:
                tee.kill()


def _tee(log: Path, number: int) -> subprocess.Popen[bytes]:
    """Insert a `tee` after descriptor `number`. It ignores Ctrl-C, and continues if the reader of its output exits."""
    tee = subprocess.Popen(["tee", "-i", "-p", "-a", str(log)], stdin=subprocess.PIPE, stdout=number, close_fds=True)
    pipe = tee.stdin
    if pipe is None:
        raise RuntimeError("tee was started without a pipe")
    os.dup2(pipe.fileno(), number)
    pipe.close()
    return tee


@contextmanager
def log_descriptor(log: Path) -> Iterator[int]:
    """Open the log to append to it. Raises StorageError."""
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_error(error, log) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
