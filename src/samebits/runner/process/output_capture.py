"""Copies what the script prints into a log file."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from samebits.core.jsonio import storage_error


@contextmanager
def quiet_import(log: Path) -> Iterator[None]:
    """Import libraries: what C++ prints meanwhile goes into the log, and they are never searched for garbage."""
    with _log_descriptor(log) as target, _no_collection():
        saved = os.dup(2)
        os.dup2(target, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no garbage: during an import that happens 600 times, among ever more objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Libraries stay until the end. Each later collection would search these 400,000 objects again, for 0.15 s.
        gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def kept_output(log: Path) -> Iterator[None]:
    """Also copy stdout and stderr, of Python and of native libraries, into `log`."""
    # The log must be writable before `tee` starts, whose errors nobody would see.
    with _log_descriptor(log):
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
def _log_descriptor(log: Path) -> Iterator[int]:
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_error(error, log) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
