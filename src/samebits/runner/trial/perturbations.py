"""Perturbations: changes around a run that must not change its result, applied in the process itself.

Clock, host name and user are replaced in Python, as changing the machine's would need privileges. The launcher changes
the hash seed and the memory layout, which the interpreter reads before it starts.
"""

import datetime as dt
import functools
import getpass
import os
import platform
import pwd
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from samebits.core.trial import CLOCK, CORES, FOLDERS, HOST, USER, Trial
from samebits.runner.compat import cpython_private
from samebits.runner.compat.patches import Patches

_LATER = 400 * 86_400 + 19_643.21  # seconds; changes year, month, day, hour, minute and second
_NAME = "another"
_NUMBER = 54_321


def perturb(trial: Trial, patches: Patches) -> None:
    """Apply the perturbations of a trial. Call it before TensorFlow is imported, which counts the cores."""
    for name, apply in ((CORES, _change_cores), (CLOCK, _change_clock), (USER, _change_user), (HOST, _change_host)):
        if name in trial.changed:
            apply(patches)


def perturb_order(trial: Trial, patches: Patches) -> None:
    """List folders in reverse order, if the trial asks for it. Call it after TensorFlow is imported."""
    if FOLDERS in trial.changed:
        _reverse_folders(patches)


def _change_cores(patches: Patches) -> None:
    """Leave the process one core. On a machine with one core, report two."""
    free = sorted(os.sched_getaffinity(0))
    patches.on_undo(os.sched_setaffinity, 0, free)
    os.sched_setaffinity(0, free[:1])
    # TensorFlow asks the affinity, Python code usually `cpu_count`.
    number = 1 if len(free) > 1 else 2
    patches.replace(os, "cpu_count", lambda: number)


def _change_clock(patches: Patches) -> None:
    """Shift the clock in `time` and `datetime`. Monotonic clocks start at an arbitrary time anyway."""
    now, now_ns = time.time, time.time_ns
    for name in ("localtime", "gmtime", "ctime"):
        patches.wrap((time, name), _at_time)
    for name, position in (("asctime", 0), ("strftime", 1)):
        patches.wrap((time, name), functools.partial(_of_time_tuple, position=position))
    patches.replace(time, "time", lambda: now() + _LATER)
    patches.replace(time, "time_ns", lambda: now_ns() + int(_LATER * 1e9))

    # The class itself stays: C code builds on it, and creates and pickles its instances.
    for name, method in (("now", _now), ("utcnow", _utcnow)):
        patches.on_undo(cpython_private.replace_class_method(dt.datetime, name, method))


def _now(cls: type[dt.datetime], tz: dt.tzinfo | None = None) -> dt.datetime:
    """`datetime.now` by the changed clock: the C implementation reads the system's instead of `time.time`."""
    return cls.fromtimestamp(time.time(), tz)


def _utcnow(cls: type[dt.datetime]) -> dt.datetime:
    return cls.fromtimestamp(time.time(), dt.UTC).replace(tzinfo=None)


def _at_time(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda seconds=None: original(time.time() if seconds is None else seconds)


def _of_time_tuple(original: Callable[..., Any], position: int) -> Callable[..., Any]:
    """Wrap a function whose argument at `position` is a time, by default the current one."""
    return lambda *given: original(*given) if len(given) > position else original(*given, time.localtime())


def _change_user(patches: Patches) -> None:
    """Change the user's name, number and home folder."""
    # A script may write to its home folder, so that the folder must exist.
    home = tempfile.mkdtemp(prefix="home-")
    patches.on_undo(_restore_environment, dict(os.environ))
    os.environ.update(USER=_NAME, LOGNAME=_NAME, USERNAME=_NAME, HOME=home)
    known = pwd.getpwuid
    entry = pwd.struct_passwd((_NAME, "x", _NUMBER, os.getgid(), "", home, "/bin/sh"))
    patches.replace(pwd, "getpwuid", lambda number: entry if number == _NUMBER else known(number))
    for name in ("getuid", "geteuid"):
        patches.replace(os, name, lambda: _NUMBER)
    for module, name in ((os, "getlogin"), (getpass, "getuser")):
        patches.replace(module, name, lambda: _NAME)


def _restore_environment(saved: dict[str, str]) -> None:
    """Restore the environment variables that describe the user."""
    for name in ("USER", "LOGNAME", "USERNAME", "HOME"):
        os.environ.pop(name, None)
        if name in saved:
            os.environ[name] = saved[name]


def _change_host(patches: Patches) -> None:
    """Change the host name, wherever Python can ask for it."""
    known = os.uname()
    other = os.uname_result((known.sysname, _NAME, known.release, known.version, known.machine))
    patches.replace(os, "uname", lambda: other)
    patches.replace(socket, "gethostname", lambda: _NAME)
    patches.replace(socket, "getfqdn", lambda name="": name or _NAME)
    # A script that connects to its own host must still work.
    for name in ("gethostbyname", "getaddrinfo"):
        patches.wrap((socket, name), _resolve_locally)
    patches.replace(platform, "node", lambda: _NAME)


def _resolve_locally(original: Callable[..., Any]) -> Callable[..., Any]:
    """Resolve the changed name to this machine."""
    return lambda host, *more, **named: original("localhost" if host == _NAME else host, *more, **named)


def _reverse_folders(patches: Patches) -> None:
    """Reverse the order in which folders are listed, in Python and in TensorFlow."""
    import tensorflow as tf

    # TensorFlow lists folders in C++, so that its functions are wrapped, too.
    scandir = os.scandir
    patches.wrap((os, "listdir"), _reversed)
    patches.replace(os, "scandir", lambda *where, **named: _ReversedScan(scandir(*where, **named)))
    # `pathlib` and `glob` keep references of their own.
    for globber in cpython_private.globbers():
        patches.replace(globber, "scandir", staticmethod(os.scandir))
    for name in ("listdir", "glob"):
        patches.wrap((tf.io.gfile, name), _reversed)


def _reversed(original: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    return lambda *given, **named: original(*given, **named)[::-1]


class _ReversedScan:
    """The entries of `os.scandir` in reverse order."""

    def __init__(self, original: Any) -> None:
        with original:
            self._entries = iter([*original][::-1])

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the remaining entries."""
        self._entries = iter(())
