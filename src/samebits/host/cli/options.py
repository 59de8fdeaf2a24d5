"""Arguments and options that several commands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.environment import DOCKER
from samebits.core.errors import InputError, NoEngineError

if TYPE_CHECKING:
    from samebits.host.docker import Engine
    from samebits.host.launch.run_limits import RunLimits

RUN_HELP = "a run's folder, its id, a prefix of the id, or last"


def add_run(parser: argparse.ArgumentParser, name: str = "run") -> None:
    """Add the argument that names a recorded run."""
    completes_runs(parser.add_argument(name, metavar="RUN", help=RUN_HELP))


def completes_runs(argument: argparse.Action) -> None:
    """Have a shell complete an argument with the names of runs."""
    from samebits.host.cli.completion import complete_runs

    argument.completer = complete_runs  # type: ignore[attr-defined]  # argcomplete looks for it here


def add_runs_folder(parser: argparse.ArgumentParser) -> None:
    """Add `--runs`."""
    parser.add_argument("--runs", type=Path, metavar="DIR", help="the folder of all runs (default: runs/)")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add `--data` to a command that executes a recorded run."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data folder now (default: the recorded one)")


def add_html(parser: argparse.ArgumentParser) -> None:
    """Add `--html FILE`."""
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page that compares the two runs")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust-its-code` to a command that executes a recorded run, or builds its image."""
    parser.add_argument(
        "--trust-its-code",
        action="append",
        default=[],
        metavar="RUN",
        dest="trusted",
        help="run the code of this run, by its id, on this host if it has no container; only for code that you have"
        " read; recorded; repeatable",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add `--max-hours` and `--max-disk` to a command that trains; see `run_limits`."""
    parser.add_argument("--max-hours", metavar="N", help="stop the run after N hours (default: 168)")
    parser.add_argument(
        "--max-disk",
        metavar="SIZE",
        help="stop the run once it wrote SIZE, such as 8g (default: 90%% of the free space)",
    )


def limits_of(options: argparse.Namespace) -> "RunLimits":
    """The limits of a command that has these options; raises InputError."""
    from samebits.host.launch.run_limits import RunLimits

    return RunLimits.parse(options.max_hours, options.max_disk)


def add_json(parser: argparse.ArgumentParser, content: str = "the result") -> None:
    """Add `--json`; `content` names what is printed."""
    parser.add_argument("--json", action="store_true", help=f"print {content} as JSON")


def add_offline(parser: argparse.ArgumentParser, reason: str = "") -> None:
    """Add `--offline`; `reason` is the case in which the command uses the network."""
    text = f"{reason}: use no network; wheels and base image must be present"
    parser.add_argument("--offline", action="store_true", help=text.removeprefix(": "))


def add_base(parser: argparse.ArgumentParser) -> None:
    """Add `--base`."""
    parser.add_argument("--base", metavar="IMAGE", help="the base image (default: $SAMEBITS_BASE, else the pinned one)")


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose where the script executes."""
    parser.add_argument("--image", metavar="NAME", help="the image (default: samebits:cpu; samebits:gpu with --gpus)")
    parser.add_argument("--gpus", metavar="all|N", help="the number of GPUs (default: none)")
    add_runtime_kind(parser)


def add_docker_only(parser: argparse.ArgumentParser, instead: str) -> None:
    """Explain what to do in the place of `--runtime`, which this command does not have: it knows Docker only."""

    def refuse(kind: str) -> str:
        if kind == DOCKER:
            return kind
        raise InputError(instead)

    parser.add_argument("--runtime", type=refuse, help=argparse.SUPPRESS)


def docker_engine(instead: str) -> "Engine":
    """Docker. Raises NoEngineError with what to do `instead` where it does not answer."""
    from samebits.host.docker import Engine

    try:
        return Engine(DOCKER)
    except NoEngineError as error:
        reason = str(error).partition(";")[0]
        raise NoEngineError(f"{reason}; {instead}", configured=error.configured) from error


def add_data_cache(parser: argparse.ArgumentParser) -> None:
    """Add `--data-cache` and its opposite; None stands for the user's own setting, else not."""
    parser.add_argument(
        "--data-cache",
        action=argparse.BooleanOptionalAction,
        help="before the run, read only data files whose sizes, times or inodes changed, and a sample (default: all)",
    )


def add_runtime_kind(parser: argparse.ArgumentParser) -> None:
    """Add `--runtime`; None stands for the value in `samebits.toml`, else auto."""
    parser.add_argument(
        "--runtime",
        metavar="KIND",
        help="docker, podman, apptainer, container (any), venv, or auto (default): docker if configured, else venv",
    )
