"""`samebits cite`: the paragraph on a run for a paper."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_OK, InputError, shorten
from samebits.host.cli.options import add_run, add_runs_folder
from samebits.host.console import print_line


def add_cite_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits cite`."""
    add_run(parser)
    parser.add_argument("--format", default="text", metavar="NAME", help="text (default), latex or cff")
    parser.add_argument("--author", action="append", default=[], metavar="NAME", help="for cff; repeatable")
    add_runs_folder(parser)
    parser.set_defaults(
        command=lambda options: cite_command(
            name=options.run, form=options.format, authors=options.author, runs=options.runs
        )
    )


def cite_command(*, name: str, form: str, authors: list[str], runs: Path | None) -> int:
    """Print the citation."""
    from samebits.host.report.citation import FORMATS, citation
    from samebits.host.runs.registry import find_run, runs_beside, runs_folder
    from samebits.host.runs.verdicts import verdicts_on

    if form not in FORMATS:
        raise InputError(f"--format takes {shorten(FORMATS, len(FORMATS))}, not {form!r}")
    kept = runs_folder(runs)
    run = find_run(name, kept)
    verdicts = verdicts_on(run, runs or runs_beside(run, kept))
    for line in citation(run.read(), form, authors, verdicts).split("\n"):
        print_line(line)
    return EXIT_OK
