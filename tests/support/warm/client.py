"""Stands where a virtual environment has its Python, and has trainings forked by a server.

It knows the standard library alone, and is started for each training: it must be fast.
"""

import hashlib
import json
import os
import resource
import signal
import socket
import sys
import time
from typing import Any

FOLDER = os.path.abspath(__file__).rpartition("/cache/")[0]
OWN = {"HOME", "KERAS_HOME", "PATH", "PYTHONPATH", "SAMEBITS_DATA", "TMPDIR"}  # nothing reads them while it is imported
SERVERS = 5  # of half a GiB each
START_SECONDS = 120


def main() -> None:
    """Have the training forked, or start it for real."""
    with open(f"{FOLDER}/settings.json") as file:
        settings = json.load(file)
    words = sys.argv[1:]
    server = None
    if words[:3] == ["-P", "-m", "samebits.runner"] and usual() == settings["usual"]:
        server = server_for({name: value for name, value in os.environ.items() if name not in OWN}, settings)
    note(f"{'cold' if server is None else 'warm'} {' '.join(words[3:])}")
    if server is None:
        os.execv(settings["python"], [settings["python"], *words])
    follow(server, words[3:])


def usual() -> dict[str, Any]:
    """What a start must have in common with the server: its cores, limits, user and namespaces."""
    numbers = (resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_NOFILE)
    limits = [resource.getrlimit(number) for number in numbers]
    spaces = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net", "pid", "user", "uts")]
    cores = sorted(os.sched_getaffinity(0))
    return {"cores": cores, "limits": [list(pair) for pair in limits], "spaces": spaces, "user": os.geteuid()}


def note(line: str) -> None:
    """Appended in one write."""
    with open(f"{FOLDER}/log", "a") as file:
        file.write(f"{line}\n")


def made(folder: str) -> bool:
    """Whether this process is the one that made it."""
    try:
        os.mkdir(folder)
    except FileExistsError:
        return False
    return True


def server_for(environment: dict[str, str], settings: dict[str, Any]) -> socket.socket | None:
    """A line to the server of this environment; None the first time, as most are met once, and where there are many."""
    key = hashlib.sha256(json.dumps(sorted(environment.items())).encode()).hexdigest()[:16]
    folder = f"{FOLDER}/{key}"
    if made(folder):
        return None
    if not os.path.exists(f"{folder}/started"):
        if sum(os.path.exists(f"{FOLDER}/{name}/started") for name in os.listdir(FOLDER)) >= SERVERS:
            return None
        if made(f"{folder}/started"):
            start(folder, environment, settings)
    deadline = time.monotonic() + START_SECONDS
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    while time.monotonic() < deadline:
        try:
            line.connect(f"{folder}/socket")
            return line
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.02)
    return None


def start(folder: str, environment: dict[str, str], settings: dict[str, Any]) -> None:
    """The server, in a session of its own; it ends with the tests' controller."""
    if os.fork() != 0:
        return
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    errors = os.open(f"{folder}/errors", os.O_WRONLY | os.O_CREAT)
    for source, target in ((nothing, 0), (nothing, 1), (errors, 2)):
        os.dup2(source, target)
    own = {"HOME": folder, "KERAS_HOME": folder, "TMPDIR": folder, "PATH": os.environ.get("PATH", os.defpath)}
    words = [settings["python"], "-P", settings["server"], f"{folder}/socket", str(settings["controller"])]
    os.execve(settings["python"], words, {**environment, **own})


def follow(server: socket.socket, words: list[str]) -> None:
    """Pass signals on, and end as the training ends."""
    mask = os.umask(0)
    os.umask(mask)
    request = {"words": words, "environment": dict(os.environ), "folder": os.getcwd(), "umask": mask}
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: server.send(str(number).encode()))
    answer = server.recv(64)
    status = int(answer) if answer else -signal.SIGKILL  # the server is gone, and the training with it
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
