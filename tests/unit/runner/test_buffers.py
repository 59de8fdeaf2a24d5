"""Buffers in memory come back as they were, whatever they translate when they are written to."""

import io
from pathlib import Path

import pytest

from samebits.runner.checkpoint.state.encoding import Content, PathMap
from samebits.runner.checkpoint.state.restore import StateRestorer


def restored(content: list[object], live: object) -> object:
    """A saved buffer, in the one that the script has made again."""
    restorer = StateRestorer(Content(lambda _: b""), PathMap({"run": Path("/runs/a")}))
    return restorer.value({"#": 0, "buffer": content, "class": "_io:StringIO"}, live, "a buffer")


@pytest.mark.parametrize("ends", [None, "", "\n", "\r", "\r\n"])
def test_text_with_any_ends_of_lines(ends: str | None) -> None:
    saved, live = io.StringIO(newline=ends), io.StringIO("longer, and of before\n" * 3, newline=ends)
    saved.write("a\nb\r\nc\rd\n")
    saved.seek(3)
    assert restored([saved.getvalue(), saved.tell()], live) is live
    for buffer in (saved, live):
        assert buffer.read(1)
        buffer.seek(0, io.SEEK_END)
        buffer.write("next\n")
    assert live.getvalue() == saved.getvalue()


def test_bytes() -> None:
    live = io.BytesIO(b"longer, and of before")
    assert restored([{"bytes": "DQoB"}, 9], live) is live
    assert (live.getvalue(), live.tell()) == (b"\r\n\x01", 9)
