"""How long a run may take, and how much of the disk it may fill; whoever exceeds that is stopped, and can be resumed.

hours      168, a week
max-disk   90 % of what is free where the run's folder is, when it starts

The command line says otherwise (`--max-hours`, `--max-disk`), or the user's own `config.toml`. A run is also stopped
where less than a twentieth of that space is left: a file that has no name any more fills the disk, too. A disk that has
less than 256 MiB free at the start is full before anybody looks; there only `--max-disk` counts.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from samebits.core.errors import InputError, SamebitsError, Terminated
from samebits.core.user_config import read_user_config
from samebits.host.container_limits import parse_size
from samebits.host.interrupts import forget_pending

HOURS = 168.0
_OF_FREE = 0.9
_LEFT = 0.05
_SMALL_DISK = 1 << 28
_POLL_SECONDS = 1.0
_PART_OF_TIME = 20  # looking takes at most this part of the time


class LimitError(SamebitsError):
    """A run has taken longer, or has filled more of the disk, than it may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLimits:
    """None stands for the user's own setting, else for the usual limit."""

    hours: float | None = None
    disk: int | None = None

    @classmethod
    def parse(cls, hours: str | None, disk: str | None) -> "RunLimits":
        """The limits of a command line; raises InputError."""
        return cls(
            hours=None if hours is None else _parse_hours(hours),
            disk=None if disk is None else parse_size("--max-disk", disk),
        )

    def chosen(self) -> "RunLimits":
        """With the user's own settings where the command line says nothing."""
        own = read_user_config()
        disk = parse_size("max-disk in the user's config.toml", own["max-disk"]) if "max-disk" in own else None
        return RunLimits(hours=self.hours or own.get("max-hours", HOURS), disk=self.disk or disk)


def _parse_hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    # Also where it is not a number.
    if not 0 < hours < 2**31:
        raise InputError(f"--max-hours is a number of hours above 0, not {text!r}")
    return hours


USUAL = RunLimits()


@contextmanager
def limited(folder: Path, limits: RunLimits) -> Iterator[None]:
    """Stop what runs in the block, as SIGTERM would, once it exceeds a limit; then raise LimitError.

    Only the main thread can be stopped. In another one nothing is limited.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(folder, limits.chosen())
    before = signal.getsignal(signal.SIGTERM)
    if before in (signal.SIG_DFL, None):
        signal.signal(signal.SIGTERM, _terminate)
    watch.start()
    try:
        yield
    except Terminated as stop:
        if watch.exceeded is not None:
            # It was ours, and ends nothing else.
            forget_pending()
            raise LimitError(watch.exceeded) from stop
        raise
    finally:
        watch.end()
        if before in (signal.SIG_DFL, None):
            signal.signal(signal.SIGTERM, before)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


class _Watch:
    """Looks at clock and disk from a thread."""

    def __init__(self, folder: Path, limits: RunLimits) -> None:
        self.exceeded: str | None = None
        self._folder = folder
        self._free, self._at_start = _free_bytes(folder), disk_use(folder)
        self._watched = self._free >= _SMALL_DISK
        usual = int(self._free * _OF_FREE) if self._watched else None
        self._disk = usual if limits.disk is None else limits.disk
        self._hours = HOURS if limits.hours is None else limits.hours
        # Not the wall clock, which may be set.
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._main = threading.get_ident()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = _POLL_SECONDS
        while not self._ended.wait(pause):
            began = time.monotonic()
            self.exceeded = self._excess()
            if self.exceeded is not None:
                # To the thread that waits for the run: another one would not wake it.
                signal.pthread_kill(self._main, signal.SIGTERM)
                return
            pause = max(_POLL_SECONDS, _PART_OF_TIME * (time.monotonic() - began))

    def _excess(self) -> str | None:
        """What is exceeded, in one line."""
        if time.monotonic() - self._started > self._hours * 3600:
            return f"the run was stopped after {self._hours:g} hours, the most that it may take (--max-hours)"
        try:
            used, left = disk_use(self._folder) - self._at_start, _free_bytes(self._folder)
        except OSError:  # somebody removed the folder; whoever writes there reports it
            return None
        if self._disk is not None and used > self._disk:
            return (
                f"the run was stopped: it wrote {_size(used)} to the disk, more than the {_size(self._disk)} that it"
                " may (--max-disk)"
            )
        if self._watched and left < self._free * _LEFT:
            return f"the run was stopped: only {_size(left)} are left on the disk of {self._folder}"
        return None


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 1 << 30 else f"{number / 2**20:.1f} MiB"


def _free_bytes(folder: Path) -> int:
    at = os.statvfs(folder)
    return at.f_bavail * at.f_frsize


def disk_use(folder: Path) -> int:
    """The bytes of the disk that a folder's files take; holes take none, and what cannot be read is not counted."""
    total, waiting = 0, [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as listing:
                for child in listing:
                    at = child.stat(follow_symlinks=False)
                    total += at.st_blocks * 512
                    if child.is_dir(follow_symlinks=False):
                        waiting.append(child.path)
        except OSError:  # removed meanwhile, or closed
            continue
    return total
