"""Files that a script holds open: what a checkpoint can say of one, and which hold more than it can.

The bytes of an output file and the position in it are captured by `output_files`. All else that a file object holds
would be lost: the state of a compressor or an encoder, what was read ahead, and attributes.
"""

import codecs
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from samebits.runner.checkpoint.state.encoding import UncapturableError, qualified_name
from samebits.runner.checkpoint.state.object_inspection import is_open_elsewhere

_BUFFERED: tuple[type, ...] = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
_LAYERS: dict[type, str] = {io.TextIOWrapper: "buffer", **dict.fromkeys(_BUFFERED, "raw"), io.FileIO: ""}
"""The classes that `open` returns, each with the attribute that holds the next one."""
_OF_OPEN = frozenset({"name", "mode"})
"""The attributes that `open` itself sets."""
_SETTINGS = ("mode", "encoding", "errors", "line_buffering", "write_through")
_STATELESS = frozenset(
    {"big5", "cp932", "cp949", "cp950", "euc_jp", "euc_kr", "gb18030", "gb2312", "gbk", "johab", "shift_jis"}
)
"""Encodings written in C whose encoders have a state that stays the same."""


def is_standard(file: Any) -> bool:
    """Whether it is a standard stream of the process."""
    return any(file is stream for stream in (sys.stdin, sys.stdout, sys.stderr))


def described_file(file: Any, folder: Path, where: str) -> list[str]:
    """An open or closed file: its class, and which file it is, below `folder`. It must not become another one.

    Raises UncapturableError for one that holds more than its bytes and a position.
    """
    if getattr(file, "closed", True):
        return [qualified_name(type(file)), "closed"]
    check_plain(file, where)
    if is_open_elsewhere(file, folder):
        raise UncapturableError(
            f"{where} is an open file that is read, or outside of the run's folders, whose position cannot be"
            " saved; open it where it is used"
        )
    # A file that was renamed is another one when the script opens it again.
    path = os.path.relpath(os.path.realpath(f"/proc/self/fd/{file.fileno()}"), os.path.realpath(folder))
    return [qualified_name(type(file)), path, *(str(getattr(file, name, "")) for name in _SETTINGS)]


def check_plain(file: Any, where: str) -> None:
    """Raise UncapturableError for an open file that holds more than its bytes and a position."""
    layer = file
    while layer is not None:
        kind: type = type(layer)
        if kind not in _LAYERS:
            name = qualified_name(kind).replace(":", ".")
            raise UncapturableError(
                f"{where} is a {name}, which holds more than the bytes of its file, and cannot be saved; open and"
                " close it where it is used"
            )
        check_no_attributes(layer, where)
        layer = getattr(layer, _LAYERS[kind], None)
    if type(file) is io.TextIOWrapper:
        _check_text(file, where)


def check_no_attributes(file: Any, where: str) -> None:
    """Raise UncapturableError for a file with attributes that a script has set on it."""
    if beside := sorted(vars(file).keys() - _OF_OPEN):
        raise UncapturableError(f"{where} is a file with attributes ({beside[0]}); hold them in another object")


def _check_text(file: io.TextIOWrapper, where: str) -> None:
    if _has_state(file.encoding):
        raise UncapturableError(
            f"{where} is a file in {file.encoding}, whose encoder has a state that cannot be saved; use utf-8, or open"
            " and close it where it is used"
        )
    if file.readable() and file.writable() and _has_read_ahead(file):
        raise UncapturableError(
            f"{where} is a text file that is read and written, and has read ahead; open and close it where it is used"
        )


def _has_state(encoding: str) -> bool:
    """Whether what an encoding writes depends on what it wrote before, such as a mark at the beginning."""
    found = codecs.lookup(encoding)
    kind = found.incrementalencoder
    stateless = kind is not None and getattr(kind, "getstate", None) is codecs.IncrementalEncoder.getstate
    return not stateless and found.name not in _STATELESS


def _has_read_ahead(file: io.TextIOWrapper) -> bool:
    with suppress(OSError):  # a text file does not say while it is iterated
        return file.newlines is not None or file.tell() != os.lseek(file.fileno(), 0, os.SEEK_CUR)
    return True
