"""Record what a script reads that no recipe names: files outside of its own folders, and connections.

An audit hook sees what Python opens, wherever it is called. It cannot be removed, so it is switched off at the end.
What C libraries open by themselves is not seen, except through the functions in `library_reads`.
"""

import inspect
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from samebits.core.environment import Environment
from samebits.core.record import FAILED, Outcome
from samebits.core.redaction import hide
from samebits.core.script_uses import CONNECTION, FILE, FOLDER, UnpinnedUse
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.call_sites import SiteCounter, script_site
from samebits.runner.determinism.library_reads import WRITTEN, watch_library_reads
from samebits.runner.process.console import log

_SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr")
_MAX_USES = 100  # call sites in a record
_MAX_PATHS = 100_000  # of which the answer is remembered
_MAX_DESCRIPTORS = 1_000  # paths, before those are forgotten that were closed


class UnpinnedMonitor:
    """Watches one script. `code` is its folder, `allowed` are the others that it may read.

    In a container nothing else can be read, so that `files` is off there, and a connection fails by itself. `stop`
    makes the run strict: it raises in the script.
    """

    def __init__(
        self,
        code: Path,
        allowed: Iterable[Path | None],
        *,
        files: bool,
        stop: Callable[[str], NoReturn] | None = None,
    ) -> None:
        self._code = os.path.join(code, "")
        known = [os.fspath(path) for path in (code, *allowed) if path is not None]
        software = (sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(os.path.isabs, sys.path))
        self._allowed = [os.path.join(path, "") for path in {*known, *map(os.path.realpath, known)}]
        # The script cannot put a link to another folder here.
        self._fixed = tuple(os.path.join(path, "") for path in (*_SYSTEM, *software, *map(os.path.realpath, software)))
        self._files = files
        self._stop = stop
        self._active = False
        self._seen: dict[str, bool] = {}
        self._own: set[str] = set()
        self._written: Counter[str] = Counter()
        self._descriptors: set[str] = set()
        self._uses = SiteCounter("unpinned")
        self._first: dict[tuple[str, int, str, str], str] = {}
        self._asked: list[tuple[str, str]] = []
        self._thread = threading.local()
        self._handlers: dict[str, Callable[..., None]] = {
            "open": self._open,
            "socket.connect": self._connect,
            "socket.getaddrinfo": self._look_up,
            "urllib.Request": self._request,
        }
        if files:
            self._handlers |= {"os.listdir": self._list, "os.scandir": self._list}
            self._handlers |= {"os.mkdir": self._make, "sqlite3.connect": self._read}

    def install(self, patches: Patches) -> None:
        """Watch from here on, until the patches are undone."""
        self._active = True
        patches.on_undo(self._end)
        sys.addaudithook(self._hook)
        if self._files:
            watch_library_reads(self._note_library, patches)

    def found(self) -> tuple[UnpinnedUse, ...] | None:
        """Everything that was read, by file and line; None where nothing is watched."""
        if not self._files:
            return None
        uses = (
            UnpinnedUse(path=str(path), line=int(line), call=str(call), kind=str(kind), what=str(what), times=times)
            for (path, line, call, kind, what), times in self._uses.found()
        )
        return tuple(uses)[:_MAX_USES]

    def observed(self) -> Environment:
        """The same, for the record."""
        return Environment(unpinned=self.found())

    def explained(self, outcome: Outcome, advice: Callable[[str], str], redacted: Mapping[str, str]) -> Outcome:
        """The outcome of a script that failed in a container because it asked for the network, with `advice` on that.

        `advice` is given the URL or host, which may hold a redacted value. From here on nothing is watched: the script
        has ended.
        """
        self._end()
        if self._files or outcome.state != FAILED or not self._asked:
            return outcome
        place, what = self._asked[-1]
        message = hide(f"{place} asks the network for {what}, and a run has none; {advice(what)}", redacted)
        log(message)
        return Outcome(
            state=outcome.state, message=message, traceback=outcome.traceback, exit_status=outcome.exit_status
        )

    def written(self) -> Mapping[str, int]:
        """How often the script opened each file outside of its folders for writing; empty where nothing is watched."""
        return self._written

    def descriptors(self) -> AbstractSet[str]:
        """The paths that Python code opened by `os.open`, which gives a number instead of an object."""
        return self._descriptors

    def check(self) -> None:
        """Raise SettingError where the run is strict, and the script swallowed the error or forked."""
        if self._stop is not None:
            for found in self.found() or ():
                self._stop(_strict_message(str(found)))

    def _end(self) -> None:
        self._active = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        # Called for every event of the interpreter: anything else must cost nothing.
        handler = self._handlers.get(event)
        if handler is None or not self._active or getattr(self._thread, "busy", False):
            return
        # What this does itself is not the script's.
        self._thread.busy = True
        try:
            # A folder that is gone, or a name that is none: what the script does next reports it.
            with suppress(OSError, ValueError):
                handler(*arguments)
        finally:
            self._thread.busy = False

    def _open(self, path: object, mode: object, flags: object) -> None:
        if mode is None and (text := _text(path)) is not None and not _is_own_call():
            if len(self._descriptors) >= _MAX_DESCRIPTORS:
                self._descriptors &= set(_open_paths())
            self._descriptors.add(os.path.realpath(text))
        if self._files:
            self._open_outside(path, flags)

    def _open_outside(self, path: object, flags: object) -> None:
        access = flags & os.O_ACCMODE if isinstance(flags, int) else os.O_RDONLY
        if access == os.O_WRONLY:
            self._make(path)
        else:
            self._read(path)
        if access != os.O_RDONLY:
            self._write(path)

    def _write(self, path: object) -> None:
        text = _text(path)
        if text is not None and self._is_foreign(full := os.path.realpath(text)):
            self._written[full] += 1

    def _make(self, path: object, *_: object) -> None:
        """What the script writes is its own to read."""
        text = _text(path)
        if text is not None and self._is_outside(full := os.path.realpath(text)):
            self._own.add(full)

    def _list(self, path: object) -> None:
        self._read("." if path is None else path, FOLDER)

    def _read(self, path: object, kind: str = FILE) -> None:
        text = _text(path)
        if text is None or text.startswith(self._fixed):
            return
        full = os.path.abspath(text)
        outside = self._seen.get(full)
        if outside is None:
            outside = self._is_outside(os.path.realpath(full))
            if len(self._seen) < _MAX_PATHS:
                self._seen[full] = outside
        if outside and os.path.exists(full):
            self._note(kind, full)

    def _is_outside(self, path: str) -> bool:
        if not self._is_foreign(path):
            return False
        return path not in self._own and not any(str(above) in self._own for above in Path(path).parents)

    def _is_foreign(self, path: str) -> bool:
        return path != "/" and not f"{path}/".startswith((*self._fixed, *self._allowed))

    def _request(self, url: object, *_: object) -> None:
        self._thread.url = url

    def _look_up(self, host: object, port: object, *_: object) -> None:
        # Without a port somebody asks for the name of a machine, most often of this one.
        if host is None or port in (None, 0, "", "0"):
            return
        name = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
        self._thread.port = port
        self._note(CONNECTION, f"{name}:{port}")

    def _connect(self, _socket: object, address: object) -> None:
        if not isinstance(address, tuple) or len(address) < 2:
            return  # within this machine
        # The address of a name that was looked up just before.
        if getattr(self._thread, "port", None) != address[1]:
            self._note(CONNECTION, f"{address[0]}:{address[1]}")

    def _note(self, kind: str, what: str) -> None:
        site = script_site(inspect.currentframe(), self._code)
        path, line, call = site or ("", 0, "a library")
        if kind == CONNECTION:
            url = getattr(self._thread, "url", None)
            self._thread.url = None
            self._asked.append((f"{path}:{line}: {call}" if site else call, str(url or what)))
        if not self._files and self._stop is None:
            return
        use = UnpinnedUse(path=path, line=line, call=call, kind=kind, what=what, times=1)
        # One entry for each call site, as a loop may read a million files.
        what = self._first.setdefault((path, line, call, kind), what)
        first = self._uses.add((path, line, call, kind, what))
        if self._stop is not None:
            self._stop(_strict_message(str(use)))
        if first:
            log(f"{use}, which no recipe names; pin it with --data or `samebits fetch`")

    def _note_library(self, kind: str, path: str) -> None:
        if kind == FOLDER:
            self._hook("os.listdir", (path,))
        else:
            self._hook("open", (path, "", os.O_WRONLY if kind == WRITTEN else os.O_RDONLY))


def _is_own_call() -> bool:
    """Whether samebits itself makes the call that the hook was called for."""
    frame = inspect.currentframe()
    for _ in range(3):  # this function, the handler, the hook
        frame = frame and frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__")).startswith("samebits.")


def _open_paths() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            yield os.readlink(f"/proc/self/fd/{name}")


def _strict_message(place: str) -> str:
    return f"{place}, which no recipe names, and the run is strict; pin it with --data or `samebits fetch`"


def _text(path: object) -> str | None:
    """A path as text; None for a descriptor."""
    if isinstance(path, (str, bytes, os.PathLike)):
        return os.fsdecode(path)
    return None
