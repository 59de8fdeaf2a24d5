"""Ends the training if its launcher is gone, and with it everything that the script started."""

import ctypes
import os
import resource
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL, when the launcher is gone
_LEFTOVER_SECONDS = 1.0  # that processes of the script may outlive it
_KILL_SECONDS = 5.0
_REAP_SECONDS = 1.0
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def tie_to_launcher() -> None:
    """Go on in a child process, which ends when the launcher is gone; its parent, this process, watches and waits.

    The launcher holds the other end of our standard input. When it closes, the training gets SIGTERM, so that the
    record is finalized, then SIGKILL. The script gets an empty standard input. It may end all of its own children, and
    does not end the watching by that; if it ends its parent, the kernel ends it. In a container the parent is
    process 1: no process in there can end or stop it.
    """
    libc, watcher = ctypes.CDLL(None), os.getpid()
    # What the script starts becomes ours when its parent ends, so that nothing is left behind.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Without this, processes of the same user reach a process's memory and its lifeline through /proc.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # No signal may arrive before there is somebody to pass it on to.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    training = os.fork()
    if training:
        _watch(training)
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    end_with_parent(watcher)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process, a child of `parent`, when that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # It may have ended before the kernel was asked.
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def _watch(training: int) -> NoReturn:
    """Pass signals on, wait for the end of training or launcher, end what is left, and end as the training did."""
    process = os.pidfd_open(training)
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _: _send(process, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    launched = _wait(process, training)
    status = os.waitpid(training, 0)[1]
    _end_leftovers(_LEFTOVER_SECONDS if launched else 0.0)
    if os.WIFSIGNALED(status):
        _end_by(os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def _wait(process: int, training: int) -> bool:
    """Wait for the end of the training; returns whether the launcher was there until then."""
    while (ready := select.select([0, process], [], [], _REAP_SECONDS)[0]) != [process]:
        if 0 in ready and not os.read(0, 1024):
            _send(process, signal.SIGTERM)
            if not select.select([process], [], [], GRACE_SECONDS)[0]:
                _send(process, signal.SIGKILL)
            return False
        _reap(training)
    return True


def _reap(training: int) -> None:
    """Collect the script's orphans that have ended: nobody else does."""
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != training:
            os.waitpid(ended.si_pid, 0)


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)


def _end_leftovers(seconds: float) -> None:
    """Wait for the processes that the script left behind, then kill them, as the end of a container does."""
    deadline = time.monotonic() + seconds
    # Those of a killed process become ours in their turn.
    with suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            # What even SIGKILL does not end soon waits for a device, and ends with that.
            if time.monotonic() > deadline + _KILL_SECONDS:
                return
            if time.monotonic() > deadline:
                for child in _children():
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.01)


def _children() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in parentheses, may hold anything.
            parent = int(path.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            if parent == os.getpid():
                found.append(int(path.parent.name))
    return found


def _end_by(number: int) -> NoReturn:
    """End by the signal that ended the training, so that the launcher sees it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The kernel allows no handler for SIGKILL.
    with suppress(OSError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # Only the first process of a container gets here.
    os._exit(128 + number)
