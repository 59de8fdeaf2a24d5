"""How many processes load TensorFlow while a command runs: each takes seconds for it."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from measuring import Call

LIBRARY = "libtensorflow_framework.so"


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A command that has ended, and the number of processes below it that loaded TensorFlow."""

    call: Call
    loads: int


def watched(action: Callable[[], Call]) -> Watched:
    """Run a command, and count."""
    watch = LoadWatch()
    watch.start()
    done = action()
    return Watched(call=done, loads=watch.end())


class LoadWatch(threading.Thread):
    """Looks, ten times a second, which processes below this one have TensorFlow's library mapped.

    A forked process maps it, too: only those count whose parent does not.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._known: set[int] = set()
        self._loads = 0
        self._ended = threading.Event()

    def run(self) -> None:
        """Look until the end."""
        while not self._ended.wait(0.1):
            parents = _parents()
            for pid, parent in parents.items():
                if pid not in self._known and _is_below(pid, parents) and _maps(pid):
                    self._known.add(pid)
                    # A parent that was known may have ended since.
                    self._loads += parent not in self._known and not _maps(parent)

    def end(self) -> int:
        """How many there were."""
        self._ended.set()
        self.join()
        return self._loads


def _parents() -> dict[int, int]:
    """The parent of each process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            # The name, in parentheses, may hold anything.
            found[int(path.parent.name)] = int(path.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    return found


def _is_below(pid: int, parents: dict[int, int]) -> bool:
    while pid := parents.get(pid, 0):
        if pid == os.getpid():
            return True
    return False


def _maps(pid: int) -> bool:
    try:
        return LIBRARY in Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it has ended, or may not be read
        return False
