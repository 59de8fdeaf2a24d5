"""Does a script know the arguments of a grid? A misspelled one would fail every run."""

import ast
import difflib
from collections.abc import Iterable
from pathlib import Path

from samebits.core.errors import InputError, shorten
from samebits.core.run_files import MAX_CODE_BYTES, read_plain

_FORGIVING = "parse_known_args"


def check_grid(names: Iterable[str], sources: Iterable[Path]) -> None:
    """Raise InputError for a name that argparse does not know in these sources; nothing where that is unclear."""
    known = _known_options(sources)
    for name in names if known else ():
        # argparse takes the beginning of a name for the name.
        if not any(option.startswith(f"--{name}") for option in known):
            close = difflib.get_close_matches(f"--{name}", sorted(known), n=1)
            has = f"did you mean {close[0]}?" if close else f"it has {shorten(sorted(known), 6)}"
            raise InputError(f"the script has no argument --{name}; {has}")


def _known_options(paths: Iterable[Path]) -> set[str]:
    """The long options that some files add to argparse; none where one of them cannot be told."""
    found: set[str] = set()
    for path in paths:
        try:
            nodes = [
                node for node in ast.walk(ast.parse(read_plain(path, MAX_CODE_BYTES))) if isinstance(node, ast.Call)
            ]
        except (OSError, SyntaxError, ValueError, RecursionError):
            return set()
        for call in nodes:
            method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            texts = [item.value for item in call.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
            unclear = method == "add_argument" and len(texts) < len(call.args)
            if method == _FORGIVING or unclear:
                return set()
            found |= {text for text in texts if method == "add_argument" and text.startswith("--")}
    return found
