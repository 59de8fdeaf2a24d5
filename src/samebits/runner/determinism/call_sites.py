"""Places in the script: which of its lines made a call, and how often, in this process and in those that it forks."""

import functools
import json
import linecache
import os
from collections import Counter
from contextlib import suppress
from types import CodeType, FrameType

from samebits.runner.compat import tensorflow_private

CallSite = tuple[str, int, str]
"""File, line, and the call's source text."""

_MAX_CHILD_NOTES = 1000  # calls at one call site that a forked process reports


class SiteCounter:
    """Counts what was noted at each call site."""

    def __init__(self, name: str) -> None:
        self._process = os.getpid()
        self._counts: Counter[tuple[str | int, ...]] = Counter()
        # Processes that the script forks share this file, and report through it.
        self._child_notes = os.memfd_create(name)

    def add(self, note: tuple[str | int, ...]) -> bool:
        """Count once more; returns whether it is the first time."""
        self._counts[note] += 1
        # The parent does not see a forked process's counts, so each call is written down, up to a limit.
        if os.getpid() != self._process and self._counts[note] <= _MAX_CHILD_NOTES:
            with suppress(OSError):  # the script may have closed it
                os.write(self._child_notes, (json.dumps(note) + "\n").encode())
        return self._counts[note] == 1

    def found(self) -> list[tuple[tuple[str | int, ...], int]]:
        """Every note and how often it was made, sorted."""
        counts = Counter(self._counts)
        with suppress(OSError):
            size = os.fstat(self._child_notes).st_size
            counts.update(tuple(json.loads(line)) for line in os.pread(self._child_notes, size, 0).splitlines())
        return sorted(counts.items())


def script_site(frame: FrameType | None, code: str) -> CallSite | None:
    """The innermost call in the code under a folder; None where no code of the script is on the stack."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(code):
            line, text = call_text(frame.f_code, frame.f_lasti, frame.f_lineno)
            return file.removeprefix(code), line, text.partition("\n")[0]
        if "__autograph_generated_file" in file:
            # AutoGraph runs generated code. The record names the script's own line.
            original = tensorflow_private.original_line(file, frame.f_lineno)
            if original is not None and original[0].startswith(code):
                return original[0].removeprefix(code), original[1], linecache.getline(*original).strip()
        frame = frame.f_back
    return None


@functools.lru_cache(maxsize=1000)
def call_text(code: CodeType, instruction: int, line: int) -> tuple[int, str]:
    """The source text of the call that is running, and the line that it begins in."""
    first, last, begin, end = list(code.co_positions())[instruction // 2]
    # Generated code may have no positions; the line is the best there is.
    if first is None or last is None or begin is None or end is None:
        return line, linecache.getline(code.co_filename, line).strip()
    lines = [linecache.getline(code.co_filename, number).encode() for number in range(first, last + 1)]
    # Columns are counted in bytes. The end is cut first: on one line, it shifts with the beginning.
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][begin:]
    return first, b"".join(lines).decode(errors="replace").strip()
