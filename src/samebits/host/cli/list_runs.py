"""`samebits list`: list the runs of a folder."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_OK
from samebits.host.cli.options import add_json, add_runs_folder
from samebits.host.console import print_json


def add_list_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `samebits list`."""
    add_runs_folder(parser)
    add_json(parser, "the list")
    parser.set_defaults(command=lambda options: list_command(runs=options.runs, as_json=options.json))


def list_command(*, runs: Path | None, as_json: bool) -> int:
    """List the runs of a folder, a line each."""
    from samebits.host.runs.registry import read_runs, runs_folder
    from samebits.host.runs.show import list_runs, summarise

    runs = runs_folder(runs)
    if as_json:
        print_json([summarise(folder, record) for folder, record in read_runs(runs)])
    else:
        list_runs(runs)
    return EXIT_OK
