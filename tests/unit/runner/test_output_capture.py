"""A script whose output nobody takes any more fails with its own error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import contextlib, os, signal, sys, time
from pathlib import Path
from samebits.runner.process.output_capture import kept_output
from samebits.runner.script_runner import _raised, _stopped
folder = Path(sys.argv[1])
with kept_output(folder / "log.txt"):
    for name in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        try:
            lines = Path(f"/proc/{name}/status").read_text().splitlines()
        except OSError:
            continue
        if "Name:\\ttee" in lines and f"PPid:\\t{os.getpid()}" in lines:
            os.kill(name, signal.SIGKILL)
    time.sleep(0.2)
    try:
        raise ValueError("mine")
    except ValueError as error:
        outcome = _raised(error, {})
    assert _stopped(SystemExit("why"), {}).message == "the script exited: why"
    with contextlib.suppress(OSError):
        print("lost")
(folder / "outcome").write_text(outcome.message)
"""


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="needs /proc")
def test_a_tee_that_was_killed(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path], env=dict(os.environ), capture_output=True, timeout=60, check=False
    )
    assert (tmp_path / "outcome").read_text() == "the script failed: ValueError: mine"
