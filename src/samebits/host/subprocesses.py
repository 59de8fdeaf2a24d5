"""The only module that starts programs on the host."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from samebits.core.errors import ToolError

# Seconds that a stopped training gets to finalize its record before it is killed.
FINALIZE_SECONDS = 15.0


def run_tool(
    command: Sequence[str],
    *,
    what: str,
    show: bool = False,
    limit: float | None = None,
    folder: Path | None = None,
    variables: Mapping[str, str | None] | None = None,
) -> str:
    """Run a program to its end and return its stdout.

    `what` names the task in errors; `show` passes its stderr through; `limit` is in seconds; `variables` are added to
    this process's environment, or removed from it (None). Raises ToolError, with the last lines of its output, if the
    program is missing, fails or takes longer.
    """
    # Checked first: FileNotFoundError from Popen could also mean a missing folder.
    if shutil.which(command[0]) is None:
        raise ToolError(f"{what} needs the program {command[0]!r}, which is not installed")
    try:
        done = subprocess.run(
            command,
            # A tool that asks a question (a password, a confirmation) would wait forever.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
            # Paths need not be UTF-8.
            errors="surrogateescape",
            check=False,
            timeout=limit,
            cwd=folder,
            env=None if variables is None else _with_variables(variables),
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{what} took longer than {limit:.0f} s") from error
    if done.returncode != 0:
        output = done.stderr or done.stdout or ""
        raise ToolError(f"{what} failed with status {done.returncode}{_last_lines(output)}", output)
    return done.stdout


def _with_variables(variables: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**os.environ, **variables}
    return {name: value for name, value in merged.items() if value is not None}


def _last_lines(output: str) -> str:
    """The last three lines of a failed program, for one line of an error."""
    # The cause is usually in the last line, what it concerns in the lines before.
    lines = [line.strip() for line in output.splitlines() if line.strip()][-3:]
    return f": {' | '.join(lines)}" if lines else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Streams:
    """Where the output of a run goes; None is this process's own stdout or stderr."""

    out: BinaryIO | None = None
    err: BinaryIO | None = None


INHERITED = Streams()


def start(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, streams: Streams = INHERITED
) -> subprocess.Popen[bytes]:
    """Start a program in `folder`, in a process group of its own.

    Ctrl-C in the terminal then reaches this process alone. The program's stdin is a pipe that breaks when this process
    is gone.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=streams.out,
        stderr=streams.err,
        env=environment,
        cwd=folder,
        # The terminal sends Ctrl-C to the foreground group only. The caller passes it on.
        process_group=0,
    )


@contextmanager
def beside(command: Sequence[str], grace: float, failed: Callable[[int], object] = lambda _: None) -> Iterator[None]:
    """Run a program while the body runs; after it, the program gets `grace` seconds to end by itself.

    `failed` is called with its exit status, in another thread, as soon as it ends with another status than 0.
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)

    def watch() -> None:
        if status := process.wait():
            failed(status)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            stop_gently(process, signal.SIGTERM, grace)


class Service:
    """A program that serves this process in the background, in a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        stop_gently(self._process, signal.SIGTERM)
        self._process.wait()


def in_background(command: Sequence[str], log: Path, without: Sequence[str] = ()) -> Service:
    """Start a program whose output goes to a file, `without` some variables; Ctrl-C does not reach it."""
    variables = {name: value for name, value in os.environ.items() if name not in without}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=variables, process_group=0
        )
    return Service(process)


def stop_gently(process: subprocess.Popen[bytes], signal_number: int, grace: float = FINALIZE_SECONDS) -> None:
    """Send a signal, wait `grace` seconds, then kill; a second Ctrl-C kills at once."""
    process.send_signal(signal_number)
    try:
        process.wait(grace)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
