"""`samebits report`: one HTML page of a run or a sweep, of two runs compared, or of all runs."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_OK, InputError
from samebits.host.cli.options import RUN_HELP, add_runs_folder, completes_runs
from samebits.host.console import print_line


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits report`."""
    completes_runs(parser.add_argument("run", nargs="?", metavar="RUN", help=f"{RUN_HELP}; or a sweep"))
    completes_runs(parser.add_argument("other", nargs="?", metavar="OTHER", help="a second run, to compare with"))
    parser.add_argument("--all", action="store_true", help="all runs, grouped by recipe")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page (default: named by the runs, here)")
    add_runs_folder(parser)
    parser.set_defaults(
        command=lambda options: report_command(
            names=[name for name in (options.run, options.other) if name is not None],
            every=options.all,
            output=options.output,
            runs=options.runs,
        )
    )


def report_command(*, names: list[str], every: bool, output: Path | None, runs: Path | None) -> int:
    """Write one page and print its path."""
    from samebits.host.report.comparison_page import comparison_page
    from samebits.host.report.index_page import index_page
    from samebits.host.report.page import write_page
    from samebits.host.report.run_page import run_page
    from samebits.host.report.sweep_page import sweep_page
    from samebits.host.runs.registry import find_run, runs_folder
    from samebits.host.sweep.sweep_file import find_sweep

    if every == bool(names):
        raise InputError("name a run, two runs, or --all; `samebits list` shows all runs")
    kept = runs_folder(runs)
    sweep = find_sweep(names[0], kept) if len(names) == 1 else None
    found = [] if sweep is not None else [find_run(name, kept) for name in names]
    if sweep is not None:
        page = sweep_page(sweep)
    elif every:
        page = index_page(kept)
    elif len(found) == 1:
        page = run_page(found[0])
    else:
        page = comparison_page(found[0], found[1])
    shown = [one.path.name for one in (sweep, *found) if one is not None]
    target = output or Path(f"{'-and-'.join(shown) or 'runs'}.samebits.html")
    write_page(target, page)
    print_line(str(target))
    return EXIT_OK
