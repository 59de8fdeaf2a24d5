"""The command line: `main`, and the parser with all commands."""

import argparse
import difflib
import io
import sys
import warnings
from collections.abc import Callable, Sequence

from samebits import __version__
from samebits.core.errors import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TERMINATED,
    InputError,
    SamebitsError,
    Terminated,
)
from samebits.core.run_config import OneLineParser, split_arguments
from samebits.host.cli.commands import COMMANDS, Command, overview
from samebits.host.cli.completion import complete
from samebits.host.console import log, log_defect, set_quiet, silence_stdout
from samebits.host.engine_choice import apply_choice
from samebits.host.interrupts import catch_signals, forget_pending, pending_status, raise_pending

_EPILOG = (
    "exit status: 0 success; 1 the script failed, or what was compared differs; 2 error;\n"
    "3 not comparable; 130 Ctrl-C; 143 SIGTERM"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    return guarded(lambda: _run_command(sys.argv[1:] if argv is None else argv))


def guarded(command: Callable[[], int]) -> int:
    """Call what a process is for; returns its exit status. Errors become exit statuses here only."""
    catch_signals()
    try:
        # A warning of samebits is one line without file and source line.
        warnings.showwarning = lambda message, *_: log(str(message))
        # Where an encoding cannot show a letter, its escape is better than an error.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        # While the command was imported, one may have been lost.
        raise_pending()
        apply_choice()
        status = command()
        # Flush here, so that a reader that went away is noticed inside this try.
        sys.stdout.flush()
        return status
    except SamebitsError as error:
        log(str(error))
        return error.exit_status
    except (KeyboardInterrupt, Terminated) as stop:
        return EXIT_INTERRUPTED if isinstance(stop, KeyboardInterrupt) else EXIT_TERMINATED
    except BrokenPipeError:
        # `samebits list | head`: without this, Python would report the rest of the output as an error at exit.
        silence_stdout()
        return EXIT_OK
    except Exception as error:  # noqa: BLE001  a defect of ours must not read as an error of the user's
        return _status_of_unexpected(error)
    finally:
        forget_pending()


def _status_of_unexpected(error: Exception) -> int:
    status = pending_status()
    # A library may have turned a signal into an error, which is no news.
    if status is None or _is_ours(error):
        log_defect(error)
    return EXIT_ERROR if status is None else status


def _is_ours(error: Exception) -> bool:
    """Whether an error was raised in samebits itself."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and str(place.tb_frame.f_globals.get("__name__")).startswith("samebits.")


def _run_command(argv: Sequence[str]) -> int:
    arguments, script_arguments = split_arguments(argv)
    _check_command(arguments)
    parser = make_parser()
    complete(parser)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise InputError(_unknown_arguments(options, unknown))
    if script_arguments is not None and "script" not in options:
        raise InputError("only `samebits train`, `sweep`, `check` and `fetch` take arguments after --; remove them")
    # None means that there was no `--`; an empty tuple overrides the arguments in samebits.toml.
    options.arguments = script_arguments
    if "quiet" in options:
        set_quiet()
    return int(options.command(options))


def _check_command(arguments: Sequence[str]) -> None:
    """Raise InputError for a misspelled command."""
    names = [command.name for command in COMMANDS]
    word = arguments[0] if arguments else ""
    if word and not word.startswith("-") and word not in names:
        close = difflib.get_close_matches(word, names, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"there is no command {word!r}; {meant}see 'samebits --help'")


def _unknown_arguments(options: argparse.Namespace, unknown: Sequence[str]) -> str:
    """The message for arguments that no option takes; they may be meant for the script."""
    message = f"unrecognized arguments: {' '.join(unknown)}"
    if "script" not in options:
        return f"{message}; see 'samebits --help'"
    script = options.script or f"-m {options.module}"
    return f"{message}; the script's own arguments follow --: {script} -- {' '.join(unknown)}"


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; a parsed namespace has the function to call as `command`."""
    parser = OneLineParser(
        prog="samebits",
        usage="samebits [--quiet] COMMAND ...",
        description="\n".join(["Train a Keras model, and get the same bits again.", "", *overview()]).rstrip(),
        epilog=f"`samebits COMMAND --help` shows its options, with an example.\n{_EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"samebits {__version__}")
    _add_quiet(parser)
    # The overview above lists them, in groups, which argparse cannot.
    commands = parser.add_subparsers(prog="samebits", metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    for command in COMMANDS:
        _add_command(commands, command)
    return parser


def _add_command(commands: "argparse._SubParsersAction[OneLineParser]", command: Command) -> None:
    parser = commands.add_parser(
        command.name,
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        epilog=f"example: {command.example}\n\n{_EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_options(parser)
    _add_quiet(parser)


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add `--quiet`, before or after the command."""
    parser.add_argument(
        "-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help="print no progress, only what is wrong"
    )
