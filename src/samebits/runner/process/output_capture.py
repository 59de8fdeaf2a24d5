"""What the script prints, kept in a file as well."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samebits.core.jsonio import storage_error


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
