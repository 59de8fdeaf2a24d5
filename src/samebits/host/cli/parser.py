"""The command line: `main`, and the parser with all commands."""

import argparse
import difflib
import io
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from types import FrameType

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
from samebits.host.cli.archive_base import add_archive_base_options
from samebits.host.cli.attest import add_attest_options
from samebits.host.cli.audit import add_audit_options
from samebits.host.cli.build import add_build_options
from samebits.host.cli.check import add_check_options
from samebits.host.cli.diff import add_diff_options
from samebits.host.cli.fetch import add_fetch_options
from samebits.host.cli.fingerprint import add_fingerprint_options
from samebits.host.cli.gc import add_gc_options
from samebits.host.cli.init import add_init_options
from samebits.host.cli.list_runs import add_list_options
from samebits.host.cli.lock import add_lock_options
from samebits.host.cli.pack import add_pack_options, add_unpack_options
from samebits.host.cli.preflight import add_preflight_options
from samebits.host.cli.rebuild import add_rebuild_options
from samebits.host.cli.report import add_report_options
from samebits.host.cli.resume import add_resume_options
from samebits.host.cli.rm import add_rm_options
from samebits.host.cli.show import add_show_options
from samebits.host.cli.train import add_train_options
from samebits.host.cli.verify import add_verify_options
from samebits.host.console import log, log_defect, silence_stdout
from samebits.host.engine_choice import apply_choice

_EPILOG = (
    "exit status: 0 success; 1 the script failed, or what was compared differs; 2 error; 3 not comparable;"
    " 130 Ctrl-C; 143 SIGTERM"
)

# Command, help, and the function that adds its arguments.
_COMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("init", "make a project of an existing folder of scripts", add_init_options),
    ("build", "build the image from the lock", add_build_options),
    ("lock", "lock the packages that a project requires", add_lock_options),
    ("train", "train a script and record the run", add_train_options),
    ("check", "find what in a script makes results differ between runs", add_check_options),
    ("fetch", "get what a script takes from the network, once, and pin it", add_fetch_options),
    ("resume", "resume an unfinished run, with the same bits as without the interruption", add_resume_options),
    ("verify", "train a run again and compare the results", add_verify_options),
    ("preflight", "report whether this host can reproduce a run", add_preflight_options),
    ("diff", "list every difference between two runs, in inputs and results", add_diff_options),
    ("fingerprint", "compare this machine's arithmetic with the portable table", add_fingerprint_options),
    ("attest", "train the portable model families, and add this CPU to the table", add_attest_options),
    ("rebuild", "rebuild a run's image from the run's folder and compare", add_rebuild_options),
    ("archive-base", "archive the base image for later rebuilds", add_archive_base_options),
    ("audit", "check every file of a run's folder against its record", add_audit_options),
    ("list", "list the runs", add_list_options),
    ("show", "show one run, or an image", add_show_options),
    ("rm", "remove runs", add_rm_options),
    ("gc", "list what takes space, and remove what is unused and can be made again", add_gc_options),
    ("report", "write an HTML page of a run, of two runs, or of all", add_report_options),
    ("pack", "pack a run, its image and its data into one file", add_pack_options),
    ("unpack", "check a packed run, and unpack it", add_unpack_options),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; errors become exit statuses here only."""
    # As an exception, SIGTERM unwinds like Ctrl-C: containers are removed and records finalized.
    signal.signal(signal.SIGTERM, _terminate)
    # A warning of samebits is one line without file and source line.
    warnings.showwarning = lambda message, *_: log(str(message))
    # Where an encoding cannot show a letter, its escape is better than an error.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        apply_choice()
        status = _run_command(sys.argv[1:] if argv is None else argv)
        # Flush here, so that a reader that went away is noticed inside this try.
        sys.stdout.flush()
        return status
    except SamebitsError as error:
        log(str(error))
        return error.exit_status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED
    except BrokenPipeError:
        # `samebits list | head`: without this, Python would report the rest of the output as an error at exit.
        silence_stdout()
        return EXIT_OK
    except Exception as error:  # noqa: BLE001  a defect of ours must not read as an error of the user's
        log_defect(error)
        return EXIT_ERROR


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _run_command(argv: Sequence[str]) -> int:
    arguments, script_arguments = split_arguments(argv)
    _check_command(arguments)
    options, unknown = make_parser().parse_known_args(arguments)
    if unknown:
        raise InputError(_unknown_arguments(options, unknown))
    if script_arguments is not None and "script" not in options:
        raise InputError("only `samebits train`, `check` and `fetch` take arguments after --; remove them")
    # None means that there was no `--`; an empty tuple overrides the arguments in samebits.toml.
    options.arguments = script_arguments
    return int(options.command(options))


def _check_command(arguments: Sequence[str]) -> None:
    """Raise InputError for a misspelled command."""
    names = [name for name, *_ in _COMMANDS]
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
        prog="samebits", description="Train a Keras model, and get the same bits again.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"samebits {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary, add_options in _COMMANDS:
        sentence = f"{summary[0].upper()}{summary[1:]}."
        add_options(commands.add_parser(name, help=summary, description=sentence, epilog=_EPILOG))
    return parser
