"""A training ends with its launcher, which holds the other end of its standard input."""

import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import samebits

PROGRAM = """
import signal, sys, time
sys.path.insert(0, sys.argv[1])
from samebits.runner.process import launcher_watch
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
launcher_watch.GRACE_SECONDS = 0.5
launcher_watch.tie_to_launcher()
print("tied", flush=True)
time.sleep(60)
"""


def test_orphans_that_have_ended_are_collected() -> None:
    """Left in the table of processes, they would fill it in a long training."""
    orphans = "import os\nfor _ in range(3):\n if os.fork() == 0:\n  os.fork() and os._exit(0)\n  os._exit(0)\n"
    program = PROGRAM.replace('print("tied"', orphans + "while os.waitpid(-1, 0)[0]: break\n" + 'print("tied"')
    command = [sys.executable, "-c", program, str(Path(samebits.__file__).parents[1]), "listens"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"tied\n"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            deadline = time.monotonic() + 20
            while len(children.read_text().split()) > 1 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert len(children.read_text().split()) == 1
        finally:
            process.kill()


@pytest.mark.parametrize(("script", "ended_by"), [("listens", signal.SIGTERM), ("deaf", signal.SIGKILL)])
def test_a_launcher_that_is_gone(script: str, ended_by: signal.Signals) -> None:
    """First SIGTERM, so that the record is finalized; then SIGKILL."""
    command = [sys.executable, "-c", PROGRAM, str(Path(samebits.__file__).parents[1]), script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"tied\n"
            process.stdin.close()
            assert process.wait(20) == -ended_by
        finally:
            process.kill()


def test_a_training_that_ends_its_watcher() -> None:
    """It ends as well, so that nothing runs which nobody watches."""
    program = PROGRAM.replace("time.sleep(60)", "import os; os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)")
    command = [sys.executable, "-c", program, str(Path(samebits.__file__).parents[1]), "listens"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"tied\n"
        assert process.wait(20) == -signal.SIGKILL
        # The output ends with the last process that holds it.
        assert select.select([process.stdout], [], [], 20)[0]
