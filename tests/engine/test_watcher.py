"""A script in a container cannot have its processes outlive the launcher, whatever it does to what watches it."""

import os
import signal
import subprocess
import time

import pytest

from support.command import Project
from support.machine import containers, started

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.cold]

_END_SECONDS = 60  # ten until SIGKILL, and a machine that is busy
_BEGIN = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(1, 0, 0, 0, 0)  # without the signal that the end of the parent sends
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
others = [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]
"""
_END = """
if os.fork() == 0:
    os.setsid()
open(os.path.join(os.environ["SAMEBITS_OUTPUT"], "ready"), "w").close()
while True:
    time.sleep(1)
"""
ATTACKS = {
    "stops all others": "for other in others: os.kill(other, signal.SIGSTOP)",
    "ends all others": "for other in others: other == os.getppid() or os.kill(other, signal.SIGKILL)",
    "ends process 1": "os.kill(1, signal.SIGKILL); os.kill(1, signal.SIGSTOP)",
    "holds the lifeline open": """
for other in others:
    try:
        held = os.open(f"/proc/{other}/fd/0", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        pass
""",
    "stops what watches by ptrace": """
for other in others:
    libc.ptrace(16, other, 0, 0)
""",
    "writes into the memory of what watches": """
for other in others:
    try:
        maps = open(f"/proc/{other}/maps").read().splitlines()
        with open(f"/proc/{other}/mem", "r+b", buffering=0) as memory:
            for line in maps:
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                if "x" in line.split()[1] and "[" not in line:
                    memory.seek(start)
                    memory.write(b"\\xeb\\xfe" * ((end - start) // 2))  # each instruction jumps to itself
    except OSError:
        pass
""",
    "takes all its time": """
for other in others:
    try:
        os.sched_setscheduler(other, os.SCHED_IDLE, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, other, 19)
    except OSError:
        pass
for _ in range(4 * os.cpu_count()):
    if os.fork() == 0:
        while True:
            pass
""",
    "has many processes": """
for _ in range(200):
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
""",
}


@pytest.mark.parametrize("attack", [pytest.param(name, marks=pytest.mark.slow) for name in ATTACKS])
def test_no_container_outlives_its_launcher(in_docker: Project, attack: str) -> None:
    in_docker.write(_BEGIN + ATTACKS[attack] + _END)
    command = in_docker.command()
    with started(command, cwd=in_docker.folder, env=dict(os.environ), start_new_session=True) as process:
        # Its output may have stopped.
        while process.poll() is None and not (ready := [*in_docker.runs.glob("*/staging/outputs/ready")]):
            time.sleep(0.2)
        assert ready, process.stderr.read() if process.stderr else ""
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + _END_SECONDS
    while left := _containers_of(in_docker):
        if time.monotonic() > deadline:
            subprocess.run(["docker", "kill", *left], check=False, capture_output=True)
            raise AssertionError(left)
        time.sleep(0.5)


def _containers_of(project: Project) -> list[str]:
    """Those that see the project's runs: other tests have containers, too."""
    command = ["docker", "inspect", "--format", "{{.Id}} {{range .Mounts}}{{.Source}} {{end}}", *containers()]
    # One that ended meanwhile makes the command fail, and leaves the lines of the others.
    found = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
    return [line.split()[0] for line in found if str(project.folder.resolve()) in line]
