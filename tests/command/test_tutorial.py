"""The tutorial's commands do what it shows: the same lines, but for digests, times and numbers."""

import re
import runpy

import pytest

from support.command import ROOT

pytestmark = [pytest.mark.usefixtures("locked"), pytest.mark.slow]


def _shape(text: str) -> list[str]:
    """The lines without what differs from run to run and from CPU to CPU."""
    text = re.sub(r"\d{8}T\d{6}Z|\b[0-9a-f]{8,}", "…", text)
    return re.sub(r"[0-9][0-9.,e-]*", "#", text).splitlines()


def test_its_output_is_current() -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    made = runpy.run_path(str(ROOT / "tools" / "paste_output.py"))["with_output"](page)
    assert _shape(made) == _shape(page)
