"""The code of a script's modules, and what it uses."""

import functools
import itertools
import os
import re
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from samebits.runner.checkpoint.state.code_inspection import code_objects, is_ours


def names_used(names: frozenset[str], folder: str) -> frozenset[str]:
    """Which of these names code of the script's modules uses; all of them where some code cannot be read."""
    code = list(itertools.chain.from_iterable(_code_of_script(folder)))
    return names if None in code else frozenset(name for item in code if item for name in item.co_names) & names


def text_used(pattern: re.Pattern[str], folder: str) -> bool:
    """Whether a text of the script's modules holds what the pattern finds, or may do so as it cannot be read."""
    code = itertools.chain.from_iterable(_code_of_script(folder))
    return any(item is None or any(map(pattern.search, filter(_is_text, item.co_consts))) for item in code)


def _is_text(value: object) -> bool:
    return type(value) is str


def readable_code(folder: str) -> Iterator[types.CodeType]:
    """All code of the script's modules that can be read: their functions, and their own lines."""
    yield from (item for code in _code_of_script(folder) for item in code if item is not None)


def _code_of_script(folder: str) -> Iterator[tuple[types.CodeType | None, ...]]:
    """The code of each module of the script; None for one that is compiled, in an archive or removed."""
    for name, module in list(sys.modules.items()):
        if module is not None and is_ours(name, folder):
            yield _whole_code(getattr(module, "__file__", None), is_script=name == "__main__")


def _whole_code(path: str | None, *, is_script: bool) -> tuple[types.CodeType | None, ...]:
    if path is not None and (is_script or path.endswith(".py")):
        with suppress(OSError, ValueError):
            found = os.stat(path)
            return _compiled(path, found.st_size, found.st_mtime_ns)
    return (None,)


@functools.cache
def _compiled(path: str, _size: int, _modified: int) -> tuple[types.CodeType | None, ...]:
    """All code of a file, which is compiled once for all calls of `fit`."""
    # SyntaxError: the file is no longer the one that was imported.
    with warnings.catch_warnings(action="ignore"), suppress(OSError, SyntaxError, ValueError, RecursionError):
        return tuple(code_objects(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)))
    return (None,)
