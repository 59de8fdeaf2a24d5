"""The output of a received script, so filtered that it can change nothing on the terminal but its own line.

Otherwise a script could hide the verdict that follows, or write over it. Colors, tabs and what a progress bar needs to
return to the beginning of its line pass.
"""

import codecs
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from samebits.core.printable import printable
from samebits.host.subprocesses import Streams

_RESET = "\x1b[0m"
_RESETS = (_RESET, "\x1b[m")
# A color, what passes as it is, or one letter.
_PIECE = re.compile(r"\x1b\[[0-9;]{0,32}m|[ -~\n\r\t\b]+|.", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;]{0,32})?\Z")
_PASSING = frozenset("\n\r\t\b")
_BLOCK = 1 << 16
END_SECONDS = 5.0  # for the last output, once the process has ended


class OutputFilter:
    """Text with everything escaped that a terminal would obey, but for what stays within a line."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._rest = ""
        self._colored = False

    def __call__(self, chunk: bytes, *, final: bool = False) -> bytes:
        """The harmless form of the next bytes; the `final` ones end with the usual color."""
        text = self._rest + self._decoder.decode(chunk, final)
        # What may go on in the next chunk waits for it.
        cut = None if final else _UNFINISHED.search(text)
        text, self._rest = (text, "") if cut is None else (text[: cut.start()], text[cut.start() :])
        plain = "".join(map(self._harmless, _PIECE.findall(text)))
        return (plain + (_RESET if final and self._colored else "")).encode("utf-8", "backslashreplace")

    def _harmless(self, piece: str) -> str:
        if piece.startswith("\x1b["):
            # Keras ends its colors itself. Another end would stand at the beginning of the line `run …`.
            self._colored = piece not in _RESETS
            return piece
        return piece if piece[0] in _PASSING or piece.isprintable() or len(piece) > 1 else printable(piece)


@contextmanager
def filtered_output(streams: Streams) -> Iterator[Streams]:
    """Streams that lead to the given ones through a filter each."""
    with ExitStack() as stack:
        out, err = (
            stack.enter_context(_filtered(target))
            for target in (streams.out or sys.stdout.buffer, streams.err or sys.stderr.buffer)
        )
        yield Streams(out=out, err=err)


@contextmanager
def _filtered(target: BinaryIO) -> Iterator[BinaryIO]:
    """A pipe whose other end is copied to the target, through a filter."""
    reading, writing = os.pipe()
    # A process of its own writes into the pipe, so the copying needs a thread.
    copying = threading.Thread(target=_copy, args=(reading, target), daemon=True)
    copying.start()
    try:
        with open(writing, "wb", buffering=0) as pipe:
            yield pipe
    finally:
        # What a killed process left behind may hold the pipe open.
        copying.join(END_SECONDS)


def _copy(reading: int, target: BinaryIO) -> None:
    harmless, is_open = OutputFilter(), True
    with open(reading, "rb", buffering=0) as pipe:
        while True:
            chunk = pipe.read(_BLOCK)
            if is_open:
                is_open = _written(target, harmless(chunk, final=not chunk))
            if not chunk:
                return


def _written(target: BinaryIO, content: bytes) -> bool:
    """Write; False where the reader went away, which must not end the training."""
    try:
        target.write(content)
        target.flush()
    except (OSError, ValueError):
        return False
    return True
