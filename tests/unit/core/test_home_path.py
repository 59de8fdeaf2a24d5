"""The home folder in recorded paths."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from samebits.core.home_path import recorded_path


def test_the_home_of_an_images_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod the launcher has the submitter's variable, and a path in /tmp is none in the home."""
    monkeypatch.setattr("pwd.getpwuid", lambda _: SimpleNamespace(pw_dir="/tmp"))
    monkeypatch.setenv("HOME", "/home/of-a-submitter")
    assert recorded_path(Path("/home/of-a-submitter/data")) == "~/data"
    assert recorded_path(Path("/tmp/data")) == "/tmp/data"
