"""`samebits diff`: list every difference between two runs."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_DIFFERENT, EXIT_OK, shorten
from samebits.host.cli.options import add_html, add_json, add_run, add_runs_folder
from samebits.host.console import print_json


def add_diff_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits diff`."""
    add_run(parser, "one")
    add_run(parser, "other")
    add_runs_folder(parser)
    add_json(parser, "the differences")
    add_html(parser)
    parser.set_defaults(
        command=lambda options: diff_command(
            one=options.one, other=options.other, runs=options.runs, as_json=options.json, html=options.html
        )
    )


def diff_command(*, one: str, other: str, runs: Path | None, as_json: bool, html: Path | None) -> int:
    """List the differences in recipe, environment and result; like diff, status 1 if there are any."""
    from samebits.host.audit.file_audit import require_unchanged
    from samebits.host.compare.folding import folded
    from samebits.host.compare.run_diff import diff, print_differences
    from samebits.host.console import log
    from samebits.host.report.page import check_target, write_page
    from samebits.host.runs.registry import find_run, runs_folder

    check_target(html)
    found = [find_run(name, runs_folder(runs)) for name in (one, other)]
    for run in found:
        # Checkpoints are not compared. All else is, or is what the compared digests stand for.
        others = require_unchanged(run, run.read(), lambda path: not path.startswith("checkpoints/"))
        if others:
            log(f"{run.path.name}: {shorten([str(change) for change in others], 3)}; `samebits audit` names all")
    differences = diff(*found)
    if as_json:
        print_json([difference.to_dict() for difference in differences])
    else:
        print_differences(folded(differences), found[0].read().covers)
    if html is not None:
        from samebits.host.report.comparison_page import comparison_page

        write_page(html, comparison_page(*found, differences=differences))
    return EXIT_DIFFERENT if differences else EXIT_OK
