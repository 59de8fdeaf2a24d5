"""`samebits completion`: what makes bash, zsh or fish complete commands, options and runs."""

import argparse
import os
from pathlib import Path
from typing import Any

from samebits.core.errors import EXIT_OK, InputError

SHELLS = ("bash", "zsh", "fish")
_ASKED = "_ARGCOMPLETE"  # set by the shell, for as long as it waits for the words


def add_completion_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits completion`."""
    parser.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")
    parser.set_defaults(command=lambda options: completion_command(shell=options.shell))


def completion_command(*, shell: str) -> int:
    """Print the code that the shell must read: `source <(samebits completion bash)`."""
    from argcomplete.shell_integration import shellcode

    from samebits.host.console import print_text

    if shell not in SHELLS:
        raise InputError(f"the shell must be one of {', '.join(SHELLS)}, not {shell!r}")
    print_text(shellcode(["samebits"], shell=shell))
    return EXIT_OK


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and exit, if it is the shell that asks; else do nothing, and import nothing."""
    if _ASKED in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser, always_complete_options=False)


def complete_runs(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """The ids of the runs that begin so, the youngest first, and `last`."""
    from samebits.core.errors import SamebitsError
    from samebits.host.runs.registry import run_dirs, runs_folder

    given = getattr(parsed_args, "runs", None)
    try:
        names = [run.path.name for run in run_dirs(runs_folder(Path(given) if given else None))]
    except SamebitsError:
        names = []
    # What a terminal would obey reaches none; such a run can be named by a prefix.
    return [name for name in ("last", *reversed(names)) if name.startswith(prefix) and name.isprintable()]
