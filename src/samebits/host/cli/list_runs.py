"""`samebits list`: list the runs of a folder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_OK
from samebits.host.cli.cluster import print_jobs
from samebits.host.cli.options import add_json, add_runs_folder
from samebits.host.console import print_json

if TYPE_CHECKING:
    from samebits.host.runs.run_list import RunFilter


def add_list_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `samebits list`."""
    # `script` is the one that a command starts; only such a command takes arguments for it.
    parser.add_argument(
        "--script", dest="of_script", metavar="PATH", help="only runs of this script: its path, or the end of it"
    )
    parser.add_argument("--recipe", metavar="DIGEST", help="only runs of this recipe: its digest, or a prefix of it")
    parser.add_argument("--outcome", metavar="STATE", help="only finished, failed, interrupted or running runs")
    parser.add_argument(
        "--since", metavar="TIME", help="only runs that started since then: 2026-11-27, or an age such as 12h or 2d"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the N youngest of these")
    add_runs_folder(parser)
    parser.add_argument("--jobs", action="store_true", help="list the jobs on a cluster instead, with their states")
    add_json(parser, "the list")
    parser.set_defaults(command=_list_from_options)


def _list_from_options(options: argparse.Namespace) -> int:
    from samebits.host.runs.registry import runs_folder
    from samebits.host.runs.run_list import RunFilter, parse_since

    if options.jobs:
        print_jobs(runs_folder(options.runs), as_json=options.json)
        return EXIT_OK
    wanted = RunFilter(
        script=options.of_script,
        recipe=options.recipe,
        outcome=options.outcome,
        since=None if options.since is None else parse_since(options.since),
        limit=options.limit,
    )
    return list_command(runs=options.runs, wanted=wanted, as_json=options.json)


def list_command(*, runs: Path | None, wanted: "RunFilter", as_json: bool) -> int:
    """List the runs of a folder, a line each."""
    from samebits.host.runs.registry import read_runs, runs_folder, without_collector
    from samebits.host.runs.run_list import list_runs, summarise

    runs = runs_folder(runs)
    with without_collector():
        if as_json:
            print_json([summarise(run) for run in wanted.select(read_runs(runs))])
        else:
            list_runs(runs, wanted)
    return EXIT_OK
