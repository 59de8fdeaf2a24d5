"""`samebits sweep`: one run for each seed, and one summary of all."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_OK, EXIT_SCRIPT_FAILED, InputError
from samebits.core.run_config import RunConfig, add_run_options, make_config
from samebits.host.cli.cluster import check_on
from samebits.host.cli.options import add_data_cache, add_json, add_runtime
from samebits.host.console import log, print_json, print_line, print_table

if TYPE_CHECKING:
    from samebits.host.sweep.sweep_file import Sweep, SweepDir
    from samebits.host.sweep.training import SweepOptions


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits sweep`."""
    parser.usage = "samebits sweep SCRIPT --seeds 0-9 [options] [-- script's arguments]"
    add_run_options(parser)
    parser.add_argument("--seeds", metavar="LIST", help="the seeds, such as 0-9 or 1,5,7")
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=A,B",
        help="also run with each of these values as the script's argument --NAME=VALUE; repeatable",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: 1; all with --on slurm)")
    parser.add_argument("--on", metavar="CLUSTER", help="train on a cluster: slurm (default: on this machine)")
    parser.add_argument("--sbatch", metavar="FLAGS", help="with --on slurm: flags for sbatch: --sbatch='--time=60 …'")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page of the sweep")
    add_runtime(parser)
    add_data_cache(parser)
    add_json(parser, "the summary")
    parser.set_defaults(command=_sweep_from_options)


def _sweep_from_options(options: argparse.Namespace) -> int:
    from samebits.host.cluster.submission import site_flags
    from samebits.host.sweep.members import parse_grid, parse_seeds
    from samebits.host.sweep.training import SweepOptions

    if options.seeds is None or options.seed is not None:
        raise InputError("name the seeds of a sweep with --seeds, such as --seeds 0-9, and none with --seed")
    spec = make_config(vars(options))
    grid = parse_grid(options.grid, spec.arguments)
    check_on(options)
    flags = None if options.on is None else site_flags(spec, options.sbatch)
    how = SweepOptions(seeds=parse_seeds(options.seeds), grid=grid, jobs=options.jobs, flags=flags)
    return sweep_command(spec=spec, options=how, html=options.html, as_json=options.json)


def sweep_command(*, spec: RunConfig, options: "SweepOptions", html: Path | None, as_json: bool) -> int:
    """Train every run of a sweep; returns 1 if a script failed."""
    from samebits.host.report.page import check_target, write_page
    from samebits.host.report.sweep_page import sweep_page
    from samebits.host.sweep.training import sweep

    # Before hours of training, not after them.
    check_target(html)
    folder, found = sweep(spec, options)
    print_sweep(folder, found, as_json=as_json)
    if html is not None:
        write_page(html, sweep_page(folder))
    return EXIT_SCRIPT_FAILED if found.failed else EXIT_OK


def print_sweep(folder: "SweepDir", sweep: "Sweep", *, as_json: bool) -> None:
    """Print a summary on stdout; the digest is the last line."""
    from samebits.host.sweep.sweep_file import COLUMNS, rows_of

    if as_json:
        print_json(sweep.to_dict())
        return
    rows = rows_of(sweep)
    # Without a grid its column is empty.
    first = 0 if any(row[0] for row in rows) else 1
    print_table(list(COLUMNS)[first:], [row[first:] for row in rows])
    for note in sweep.notes():
        log(note)
    print_line(f"sweep {folder.path}")
    print_line(f"digest {sweep.digest}")
