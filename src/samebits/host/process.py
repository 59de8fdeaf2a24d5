"""The one door to other programs."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from samebits.errors import ToolError


def run_tool(command: Sequence[str], *, what: str, show: bool = False) -> str:
    """Run a program to its end and return its stdout; `show` lets its stderr through.

    Raises ToolError, with the last lines it printed, where the program is missing or fails.
    """
    if shutil.which(command[0]) is None:
        raise ToolError(f"{what} needs the program {command[0]!r}, which is not installed")
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if show else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = [line for line in (done.stderr or done.stdout or "").splitlines() if line.strip()][-3:]
        detail = " | ".join(line.strip() for line in last)
        raise ToolError(f"{what} failed with status {done.returncode}" + (f": {detail}" if detail else ""))
    return done.stdout


def start(command: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, so that Ctrl-C reaches us alone; we hold its stdin."""
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, cwd=folder, process_group=0)


def stop_gently(process: subprocess.Popen[bytes], signal_number: int, grace: float) -> None:
    """Send a signal, wait `grace` seconds, then kill; a second Ctrl-C kills at once."""
    process.send_signal(signal_number)
    try:
        process.wait(grace)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
