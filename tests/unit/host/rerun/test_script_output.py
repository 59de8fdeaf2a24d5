"""The output of a received script can change nothing on a terminal but its own line."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samebits.host.rerun.script_output import OutputFilter, filtered_output
from samebits.host.subprocesses import Streams

PLAIN = [
    "a line\n",
    "\r\x08\x08 3/3 \x1b[1m9s\x1b[0m \x1b[32m━━━━\x1b[0m loss: 0.1\t2\r\n",
    "é ∂ 語 🎉\n",
    "",
]
ATTACKS = [
    "\x1b[2J\x1b[H",  # clears the screen
    "\x1b[1A\x1b[2Kidentical: 1 model",  # writes over the line above
    "\x1b]0;title\x07",
    "\x1b]52;c;aGk=\x07",  # fills the clipboard
    "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[?1049h",  # another screen
    "\x1b[8;1r",  # what scrolls
    "\x1bc",
    "\x1b7\x1b8",
    "\x1bP$q\x1b\\",
    "\x9b2J",
    "\x0e\x0f",  # other letters
    "\x0b\x0c",
    "\x07\x00\x7f",
    "\u202eidentical\u202c",
    "\u2066\u200b",
    "\u2028",
    "\x1b[" + "1;" * 40 + "m",
    "\x1b",
    "\x1b[",
]


def through(*chunks: bytes) -> str:
    harmless = OutputFilter()
    done = [harmless(chunk) for chunk in chunks]
    return b"".join((*done, harmless(b"", final=True))).decode()


@pytest.mark.parametrize("text", PLAIN)
def test_what_passes(text: str) -> None:
    assert through(text.encode()) == text
    assert through(*(bytes([byte]) for byte in text.encode())) == text


def obeyed(text: str) -> str:
    """What a terminal would obey in a text, without what may pass."""
    rest = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "".join(letter for letter in rest if not (letter.isprintable() or letter in "\n\r\t\b"))


@pytest.mark.parametrize("text", ATTACKS)
def test_what_does_not_pass(text: str) -> None:
    whole, pieces = through(text.encode()), through(*(bytes([byte]) for byte in text.encode()))
    assert whole == pieces
    assert obeyed(whole) == ""
    assert "identical" not in text or "identical" in whole


@given(st.lists(st.binary(max_size=20) | st.sampled_from([item.encode() for item in ATTACKS])))
def test_nothing_passes_however_it_is_cut(chunks: list[bytes]) -> None:
    whole = through(b"".join(chunks))
    assert obeyed(whole) == ""
    assert through(*chunks) == whole
    colors = re.findall(r"\x1b\[[0-9;]*m", whole)
    assert not colors or colors[-1] in {"\x1b[0m", "\x1b[m"}


def test_the_color_ends_with_the_output() -> None:
    assert through(b"\x1b[8mhidden") == "\x1b[8mhidden\x1b[0m"
    assert through(b"\x1b[0m\x1b[0;8mhidden") == "\x1b[0m\x1b[0;8mhidden\x1b[0m"
    assert through(b"\x1b[1mbold\x1b[m\n") == "\x1b[1mbold\x1b[m\n"


def test_both_streams(tmp_path: Path) -> None:
    with (
        (tmp_path / "out").open("wb") as out,
        (tmp_path / "err").open("wb") as err,
        filtered_output(Streams(out=out, err=err)) as streams,
    ):
        assert streams.out is not None
        assert streams.err is not None
        streams.out.write(b"one\x1b[2J")
        # A process writes to the descriptor itself.
        os.write(streams.err.fileno(), b"two\x07\xff")
    assert (tmp_path / "out").read_bytes() == b"one\\x1b[2J"
    assert (tmp_path / "err").read_bytes() == b"two\\x07\\xff"


def test_a_reader_that_went_away(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with (
        open(writing, "wb", buffering=0) as gone,
        (tmp_path / "err").open("wb") as err,
        filtered_output(Streams(out=gone, err=err)) as streams,
    ):
        assert streams.out is not None
        for _ in range(50):
            streams.out.write(b"x" * 10_000)
