"""Reads TOML that a project holds: a repository may have anything in the place of such a file."""

import tomllib
from pathlib import Path
from typing import Any

from samebits.core.run_files import read_given

_MAX_LINE = 10_000
"""The time that `tomllib` takes grows with the square of a key's parts."""


def read_toml(path: Path, most: int = 16 << 20, *, anywhere: bool = False) -> dict[str, Any]:
    """The values of a file; raises OSError, and ValueError for what is no TOML. `anywhere` is as in `read_given`."""
    return parse_toml(read_given(path, most, anywhere=anywhere).decode("utf-8"))


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a text; raises ValueError."""
    if any(len(line) > _MAX_LINE for line in text.splitlines()):
        raise ValueError(f"a line is longer than {_MAX_LINE:,} characters")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
