"""What a checkpoint says of a file that stays open, and which files hold more than it can."""

import bz2
import codecs
import gzip
import io
import lzma
import os
import shelve
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.checkpoint.state.library_objects import REFUSE, handling_of
from samebits.runner.checkpoint.state.open_files import check_no_attributes, check_plain, described_file, is_standard
from samebits.runner.checkpoint.state.restorability import check_restorable


class Counted(io.FileIO):
    """A file with a count."""


class Wrapped(io.TextIOWrapper):
    """A text file with a count."""


class Kept(shelve.DbfilenameShelf[int]):
    """A database of the script's own class."""


PLAIN: dict[str, Callable[[Path], IO[Any]]] = {
    "text": lambda path: path.open("w"),
    "latin": lambda path: path.open("a", encoding="latin-1"),
    "gbk": lambda path: path.open("w", encoding="gbk"),
    "little-endian": lambda path: path.open("w", encoding="utf-16-le"),
    "bytes": lambda path: path.open("wb"),
    "both": lambda path: path.open("w+b"),
    "both of text": lambda path: path.open("w+"),
    "raw": lambda path: path.open("wb", buffering=0),
}

STATEFUL: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gzip": (lambda path: gzip.GzipFile(path, "wb"), "gzip.GzipFile"),
    "text in gzip": (lambda path: gzip.open(path, "wt"), "gzip.GzipFile"),  # noqa: SIM115
    "bz2": (lambda path: bz2.BZ2File(path, "wb"), "bz2.BZ2File"),
    "text in bz2": (lambda path: bz2.open(path, "wt"), "bz2.BZ2File"),  # noqa: SIM115
    "lzma": (lambda path: lzma.open(path, "wb"), "lzma.LZMAFile"),  # noqa: SIM115
    "zip": (lambda path: zipfile.ZipFile(path, "w").open("a", "w"), "zipfile._ZipWriteFile"),  # noqa: SIM115
    "spooled": (lambda _: tempfile.SpooledTemporaryFile(), "tempfile.SpooledTemporaryFile"),  # noqa: SIM115
    "pair": (lambda path: io.BufferedRWPair(io.FileIO(os.devnull), io.FileIO(path, "w")), "_io.BufferedRWPair"),
    "own": (lambda path: Counted(path, "w"), "Counted"),
    "over own": (lambda path: io.BufferedWriter(Counted(path, "w")), "Counted"),
    "own text": (lambda path: Wrapped(path.open("wb")), "Wrapped"),
    "in memory": (lambda _: io.TextIOWrapper(io.BytesIO()), "_io.BytesIO"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_files_of_open_can_stay_open(name: str, tmp_path: Path) -> None:
    """They are described alike before and after they were written to, and as another one when they are closed."""
    with PLAIN[name](tmp_path / "file") as file:
        before = described_file(file, tmp_path, "f")
        file.write("line\n" if isinstance(file, io.TextIOBase) else b"line\n")
        assert described_file(file, tmp_path, "f") == before
        assert before[1] == "file"
    assert described_file(file, tmp_path, "f") != before


@pytest.mark.parametrize("name", STATEFUL)
def test_what_holds_more_than_its_bytes_is_refused(name: str, tmp_path: Path) -> None:
    make, kind = STATEFUL[name]
    with make(tmp_path / "file") as file:
        with pytest.raises(UncapturableError, match=rf"^f is a .*{kind}, which holds more than the bytes of its file"):
            described_file(file, tmp_path, "f")
        assert not is_standard(file)
    if name == "zip":
        file._zipfile.close()
    assert described_file(file, tmp_path, "f")[1] == "closed"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "iso2022_jp", "hz", "big5hkscs"])
def test_an_encoder_with_a_state_is_refused(encoding: str, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w", encoding=encoding) as file, pytest.raises(UncapturableError, match=encoding):
        described_file(file, tmp_path, "f")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "utf-32-be", "euc_jp", "shift_jis"])
def test_an_encoder_without_a_state(encoding: str, tmp_path: Path) -> None:
    """Each text has the same bytes wherever it stands."""
    encoder = codecs.getincrementalencoder(encoding)()
    assert len({encoder.encode("a") for _ in range(3)}) == 1
    with (tmp_path / "file").open("w", encoding=encoding) as file:
        check_plain(file, "f")


def test_text_that_was_read_ahead_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one\ntwo\n" * 9_999)
    for name in ("readline", "__next__", "read"):
        with path.open("r+") as file:
            check_plain(file, "f")
            getattr(file, name)()
            with pytest.raises(UncapturableError, match="has read ahead"):
                check_plain(file, "f")
    with path.open("r+") as file:
        file.read()
        file.seek(0, io.SEEK_END)
        check_plain(file, "f")


def test_a_file_with_attributes_is_refused(tmp_path: Path) -> None:
    for file in ((tmp_path / "a").open("w"), (tmp_path / "b").open("wb"), io.StringIO(), io.BytesIO()):
        with file:
            check_no_attributes(file, "f")
            setattr(file, "lines", 3)  # noqa: B010
            with pytest.raises(UncapturableError, match="attributes \\(lines\\)"):
                check_no_attributes(file, "f")


def test_each_file_has_a_description_of_its_own(tmp_path: Path) -> None:
    """By its place, also after it was renamed, its mode and its encoding; the folder differs between runs."""
    found = []
    for name, mode, encoding in [("a", "w", "utf-8"), ("b/a", "w", "utf-8"), ("a", "a", "utf-8"), ("a", "w", "ascii")]:
        (tmp_path / "b").mkdir(exist_ok=True)
        with (tmp_path / name).open(mode, encoding=encoding) as file:
            found.append(described_file(file, tmp_path, "f"))
            if name == "b/a":
                (tmp_path / name).rename(tmp_path / "c")
                found.append(described_file(file, tmp_path, "f"))
    assert len({tuple(description) for description in found}) == len(found) == 5
    assert not any(str(tmp_path) in text for description in found for text in description)


def test_a_file_that_is_only_read_is_refused(tmp_path: Path) -> None:
    with Path(__file__).open() as file, pytest.raises(UncapturableError, match="an open file that is read"):
        described_file(file, tmp_path, "f")


def test_another_file_cannot_be_restored() -> None:
    state = [{"roots": [["f", {"file": ["_io:TextIOWrapper", name], "#": 0}]], "globals": []} for name in "ab"]
    check_restorable(state[0], state[0])
    with pytest.raises(UncapturableError, match="f became another open file during training, or was closed"):
        check_restorable(state[1], state[0])


def test_standard_streams() -> None:
    assert all(map(is_standard, (sys.stdin, sys.stdout, sys.stderr)))


def test_a_database_cannot_stay_open(tmp_path: Path) -> None:
    for make in (shelve.open, Kept):
        with make(str(tmp_path / "held")) as held:
            assert handling_of(held) == REFUSE
