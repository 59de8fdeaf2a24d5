"""Paths in saved text are replaced where they are a run's own, and nowhere else."""

from pathlib import Path

import pytest

from samebits.runner.checkpoint.state.encoding import PathMap

OLD = PathMap({"data": Path("/home/u/data"), "run": Path("/home/u/runs/a.b")})
NEW = PathMap({"data": Path("/mnt/new"), "run": Path("/runs/c")})


def moved(text: str) -> str:
    """The text in a resumed run, whose folders are elsewhere."""
    saved = OLD.leave(text)
    return text if saved == text else NEW.arrive(saved["text"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/home/u/data", "/mnt/new"),
        ("/home/u/data/", "/mnt/new/"),
        ("/home/u/data/a.csv", "/mnt/new/a.csv"),
        ("file:///home/u/data/a.csv", "file:///mnt/new/a.csv"),
        ("/home/u/data:/home/u/runs/a.b/outputs", "/mnt/new:/runs/c/outputs"),
        ("'/home/u/data', \"/home/u/data\"", "'/mnt/new', \"/mnt/new\""),
        ("saved to /home/u/runs/a.b/m.keras", "saved to /runs/c/m.keras"),
    ],
)
def test_a_path_of_the_run(before: str, after: str) -> None:
    assert moved(before) == after


@pytest.mark.parametrize(
    "text",
    [
        "/home/u/data2",
        "/home/u/data2/a.csv",
        "/home/u/data.old/a.csv",
        "/home/u/data-2",
        "/home/u/data 2/a.csv",
        "/mnt/home/u/data",
        "/x//home/u/data",
        "/home/u/runs/aXb",
        "/home/u",
    ],
)
def test_a_path_that_only_looks_like_one(text: str) -> None:
    assert moved(text) == text
