"""The files that this command's own output goes to: they grow while it reads the folder that they lie in."""

import functools
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

_STREAMS = ("1", "2")


@functools.cache
def output_files() -> frozenset[str]:
    """Paths of the files that stdout and stderr go to, directly or by a pipeline; none where /proc is missing."""
    own = {name: link for name, link in _links("self") if name in _STREAMS}
    found = {link for name, link in own.items() if _is_output("self", name)}
    pipes = {link for link in own.values() if link.startswith("pipe:")}
    return frozenset(found | _beyond(pipes) if pipes else found)


def _beyond(pipes: set[str]) -> set[str]:
    """The files that the next programs of the pipeline write, as in `| grep loss | tee log.txt`."""
    found, programs = set(), {process: dict(_links(process)) for process in _processes()}
    # What a program reads as its own stdin was connected by a shell. Whoever else holds the pipe has files of its own.
    while readers := [process for process, links in programs.items() if links.get("0") in pipes]:
        for process in readers:
            links = programs.pop(process)
            pipes = pipes | {link for name, link in links.items() if name in _STREAMS and link.startswith("pipe:")}
            found |= {link for name, link in links.items() if _is_output(process, name)}
    return found


def _processes() -> list[str]:
    with suppress(OSError):
        return [name for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())]
    return []


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
