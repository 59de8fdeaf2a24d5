"""Reads TOML that a project holds: a repository may have anything in the place of such a file."""

import tomllib
from pathlib import Path
from typing import Any

from samebits.core.run_files import read_given

_MAX_BYTES = 1 << 20
_MAX_LINE = 10_000
_MAX_LINE_DOTS = 300
"""The time that `tomllib` takes grows with the square of a key's parts. A list of requirements has dots, too."""
_MAX_DOTS = 20_000


def read_toml(path: Path, *, anywhere: bool = False) -> dict[str, Any]:
    """The values of a file; raises OSError, and ValueError for what is no TOML. `anywhere` is as in `read_given`."""
    try:
        text = read_given(path, _MAX_BYTES, anywhere=anywhere).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    if text.count(".") > _MAX_DOTS:
        raise ValueError(f"it has more than {_MAX_DOTS:,} dots")
    return parse_toml(text)


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a text; raises ValueError, which says in a sentence what is wrong."""
    # Not `splitlines`, which also ends lines where TOML does not.
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _MAX_LINE:
            raise ValueError(f"line {number} is longer than {_MAX_LINE:,} characters")
        if line.count(".") > _MAX_LINE_DOTS:
            raise ValueError(f"line {number} has more than {_MAX_LINE_DOTS} dots; write it as several lines")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        words = str(error)
        raise ValueError(f"it is not TOML: {words[:1].lower()}{words[1:]}") from error
    except ValueError as error:
        raise ValueError("a number has too many digits, or a date does not exist") from error
