"""The files that this command's own output goes to: they grow while it reads the folder that they lie in."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

_STREAMS = ("1", "2")


def output_files() -> frozenset[str]:
    """Paths of the files that stdout and stderr go to, directly or through `| tee`; none where /proc is missing."""
    own = {name: link for name, link in _links("self") if name in _STREAMS}
    found = {link for name, link in own.items() if _is_output("self", name)}
    pipes = {link for link in own.values() if link.startswith("pipe:")}
    return frozenset(found.union(*(_beyond(pipes, process) for process in _processes() if pipes)))


def _processes() -> Iterator[str]:
    with suppress(OSError):
        yield from (name for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid()))


def _beyond(pipes: set[str], process: str) -> set[str]:
    """The files that a process writes which holds one of our pipes, as `tee` does."""
    links = list(_links(process))
    if not any(link in pipes for _, link in links):
        return set()
    return {link for name, link in links if _is_output(process, name)}


def _links(process: str) -> Iterator[tuple[str, str]]:
    """By number, what the open files of a process are; nothing for another user's."""
    with suppress(OSError):
        for name in os.listdir(f"/proc/{process}/fd"):
            with suppress(OSError):
                yield name, os.readlink(f"/proc/{process}/fd/{name}")


def _is_output(process: str, name: str) -> bool:
    """Whether an open file is a regular one, and open for writing."""
    with suppress(OSError, ValueError):
        if not stat.S_ISREG(os.stat(f"/proc/{process}/fd/{name}").st_mode):
            return False
        with open(f"/proc/{process}/fdinfo/{name}", encoding="ascii") as file:
            flags = next(line.split()[1] for line in file if line.startswith("flags:"))
        return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
    return False
