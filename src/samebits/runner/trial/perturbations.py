"""What around a run must not matter, made another in a trial: in the process itself, as nobody may set a machine's
clock or name for it. Hash seed and memory layout are the launcher's, as the interpreter takes them before it starts.
"""

import copyreg
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

_LATER = 400 * 86_400 + 19_643.21  # seconds: another year, month, day, hour, minute and second
_NAME = "another"
_NUMBER = 54_321


def change(trial: Trial, patches: Patches) -> None:
    """Make them others; before TensorFlow is imported, which counts the cores."""
    for name, make in ((CORES, _cores), (CLOCK, _clock), (USER, _user), (HOST, _host)):
        if name in trial.changed:
            make(patches)


def change_order(trial: Trial, patches: Patches) -> None:
    """Have folders listed from behind; after TensorFlow is imported, which has a way of its own."""
    if FOLDERS in trial.changed:
        _folders(patches)


def _cores(patches: Patches) -> None:
    """One of those that there are; where there is only one, it looks as if there were two."""
    free = sorted(os.sched_getaffinity(0))
    patches.on_undo(os.sched_setaffinity, 0, free)
    os.sched_setaffinity(0, free[:1])
    number = 1 if len(free) > 1 else 2
    patches.replace(os, "cpu_count", lambda: number)


def _clock(patches: Patches) -> None:
    """Later, in `time` and `datetime`; monotonic clocks count from nowhere as it is."""
    now, now_ns = time.time, time.time_ns
    for name in ("localtime", "gmtime", "ctime"):
        patches.wrap((time, name), _at)
    for name, position in (("asctime", 0), ("strftime", 1)):
        patches.wrap((time, name), functools.partial(_of_tuple, position=position))
    patches.replace(time, "time", lambda: now() + _LATER)
    patches.replace(time, "time_ns", lambda: now_ns() + int(_LATER * 1e9))

    for name, real, other in (("datetime", dt.datetime, Datetime), ("date", dt.date, Date)):
        copyreg.pickle(real, functools.partial(_reduced, other))
        patches.on_undo(copyreg.dispatch_table.pop, real, None)
        patches.replace(dt, name, other)


def _reduced(other: Callable[..., Any], value: dt.date) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How an ordinary one is pickled: as one of the type that now has its name."""
    return other, tuple(value.__reduce_ex__(2)[1])


class _Like(type):
    """The type of a type that stands for another: whatever is an instance of that one is one of it."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, cls.__dict__["like"]) if "like" in cls.__dict__ else super().__instancecheck__(value)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, cls.__dict__["like"]) if "like" in cls.__dict__ else super().__subclasscheck__(other)


class Datetime(dt.datetime, metaclass=_Like):
    """Follows `time.time`; the C implementation's own asks the system. Ordinary ones are its instances, too."""

    like = dt.datetime

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Self:
        """As the changed clock has it."""
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Self:
        """The same in UTC."""
        return cls.fromtimestamp(time.time(), dt.UTC).replace(tzinfo=None)


class Date(dt.date, metaclass=_Like):
    """What `datetime.date` has to be for the other one to be a subclass of it."""

    like = dt.date


for _class, _name in ((Datetime, "datetime"), (Date, "date")):  # pickles name them so
    _class.__module__, _class.__name__, _class.__qualname__ = "datetime", _name, _name


def _at(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda seconds=None: original(time.time() if seconds is None else seconds)


def _of_tuple(original: Callable[..., Any], position: int) -> Callable[..., Any]:
    """A function of a time that is now where none is given."""
    return lambda *given: original(*given) if len(given) > position else original(*given, time.localtime())


def _user(patches: Patches) -> None:
    """Another name, number and home."""
    home = tempfile.mkdtemp(prefix="home-")
    patches.on_undo(_put_environment, dict(os.environ))
    os.environ.update(USER=_NAME, LOGNAME=_NAME, USERNAME=_NAME, HOME=home)
    known = pwd.getpwuid
    entry = pwd.struct_passwd((_NAME, "x", _NUMBER, os.getgid(), "", home, "/bin/sh"))
    patches.replace(pwd, "getpwuid", lambda number: entry if number == _NUMBER else known(number))
    for name in ("getuid", "geteuid"):
        patches.replace(os, name, lambda: _NUMBER)
    for module, name in ((os, "getlogin"), (getpass, "getuser")):
        patches.replace(module, name, lambda: _NAME)


def _put_environment(before: dict[str, str]) -> None:
    """Give the variables of the user back what they had."""
    for name in ("USER", "LOGNAME", "USERNAME", "HOME"):
        os.environ.pop(name, None)
        if name in before:
            os.environ[name] = before[name]


def _host(patches: Patches) -> None:
    """Another name, wherever Python asks for it."""
    told = os.uname()
    other = os.uname_result((told.sysname, _NAME, told.release, told.version, told.machine))
    patches.replace(os, "uname", lambda: other)
    patches.replace(socket, "gethostname", lambda: _NAME)
    patches.replace(socket, "getfqdn", lambda name="": name or _NAME)
    for name in ("gethostbyname", "getaddrinfo"):
        patches.wrap((socket, name), _known_here)
    patches.replace(platform, "node", lambda: _NAME)


def _known_here(original: Callable[..., Any]) -> Callable[..., Any]:
    """The other name is this machine's."""
    return lambda host, *more, **named: original("localhost" if host == _NAME else host, *more, **named)


def _folders(patches: Patches) -> None:
    """From behind what the file system gives from the front."""
    import tensorflow as tf

    scandir = os.scandir
    patches.wrap((os, "listdir"), _reversed)
    patches.replace(os, "scandir", lambda *where, **named: _Scanned(scandir(*where, **named)))
    for globber in cpython_private.globbers():
        patches.replace(globber, "scandir", staticmethod(os.scandir))
    for name in ("listdir", "glob"):
        patches.wrap((tf.io.gfile, name), _reversed)


def _reversed(original: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    return lambda *given, **named: original(*given, **named)[::-1]


class _Scanned:
    """What `os.scandir` gives, from behind."""

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
        """No more of them."""
        self._entries = iter(())
