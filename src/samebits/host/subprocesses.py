"""The one door to other programs."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from samebits.core.errors import ToolError


def run_tool(command: Sequence[str], *, what: str, show: bool = False, limit: float | None = None) -> str:
    """Run a program to its end and return its stdout; `show` lets its stderr through, `limit` is in seconds.

    Raises ToolError, with the last lines it printed, where the program is missing, fails or takes longer.
    """
    if shutil.which(command[0]) is None:
        raise ToolError(f"{what} needs the program {command[0]!r}, which is not installed")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
            check=False,
            timeout=limit,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{what} took longer than {limit:.0f} s") from error
    if done.returncode != 0:
        last = [line for line in (done.stderr or done.stdout or "").splitlines() if line.strip()][-3:]
        detail = " | ".join(line.strip() for line in last)
        raise ToolError(f"{what} failed with status {done.returncode}" + (f": {detail}" if detail else ""))
    return done.stdout


@dataclass(frozen=True, kw_only=True, slots=True)
class Streams:
    """Where what a run prints goes; None is our own stdout, or stderr."""

    out: BinaryIO | None = None
    err: BinaryIO | None = None


OURS = Streams()


def start(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, streams: Streams = OURS
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, so that Ctrl-C reaches us alone; we hold its stdin."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=streams.out,
        stderr=streams.err,
        env=environment,
        cwd=folder,
        process_group=0,
    )


def stop_gently(process: subprocess.Popen[bytes], signal_number: int, grace: float) -> None:
    """Send a signal, wait `grace` seconds, then kill; a second Ctrl-C kills at once."""
    process.send_signal(signal_number)
    try:
        process.wait(grace)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
