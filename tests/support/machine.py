"""The machine the tests run on: its users, cores, disks, processes and containers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def containers() -> list[str]:
    """The ids of all our containers, running or not."""
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", "label=samebits=run"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to read and write everything; as ourselves where we are not root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def cores(number: int) -> Iterator[None]:
    """On so many cores, if there are as many; what is started here inherits them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process whose stdout and stderr are read; whatever comes of the test, it does not outlive it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def busy() -> Iterator[None]:
    """Beside a process that never rests."""
    with started([sys.executable, "-c", "while True: pass"]):
        yield


def on_small_disk(code: str, folder: Path) -> list[str]:
    """The lines that Python code prints in `folder`, where a disk of 64 KiB is mounted for it alone."""
    mounted = 'mount -t tmpfs -o size=64k none "$0" && cd "$0"'
    namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*namespace, mounted, str(folder)], capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk may be mounted here")
    command = [*namespace, f'{mounted} && exec "$1" -c "$2"', str(folder), sys.executable, code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def sleep_after_mark(mark: Path) -> None:
    """Write this process's number to `mark`, then sleep: work for a pool, which can name only what it can import."""
    mark.write_text(str(os.getpid()))
    time.sleep(600)


def stop_slowly_after_mark(mark: Path, stops: int) -> None:
    """The same for a training that stops slowly: a second after so many SIGTERMs. It notes each beside the mark."""
    seen = 0

    def note(*_: object) -> None:
        nonlocal seen
        seen += 1
        stop_mark(mark, seen).touch()

    signal.signal(signal.SIGTERM, note)
    mark.write_text(str(os.getpid()))
    while seen < stops:
        time.sleep(0.05)
    time.sleep(1)


def stop_mark(mark: Path, number: int) -> Path:
    """What says that the process of a mark got its SIGTERM of this number, from 1."""
    return mark.with_name(f"{mark.name}-{number}")
