"""`samebits rm`: remove runs."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_OK
from samebits.host.cli.options import RUN_HELP, add_runs_folder, completes_runs
from samebits.host.console import print_line


def add_rm_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits rm`."""
    completes_runs(parser.add_argument("run", nargs="+", metavar="RUN", help=RUN_HELP))
    parser.add_argument(
        "--force", action="store_true", help="also a run that may be running, or that another or a sweep needs"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    add_runs_folder(parser)
    parser.set_defaults(
        command=lambda options: rm_command(
            names=options.run, runs=options.runs, force=options.force, dry=options.dry_run
        )
    )


def rm_command(*, names: list[str], runs: Path | None, force: bool, dry: bool) -> int:
    """Remove runs, all or none where one is refused; print a line for each."""
    from samebits.host.cleanup.item import disk_size, size_text
    from samebits.host.cleanup.run_removal import refuse_needed, remove_run, require_run
    from samebits.host.runs.registry import find_run, runs_folder

    kept = runs_folder(runs)
    chosen = list(dict.fromkeys(find_run(name, kept) for name in names))
    for run in chosen:
        require_run(run)
    if not force:
        refuse_needed(chosen)
    for run in chosen:
        size = size_text(disk_size(run.path))
        if not dry:
            remove_run(run)
        print_line(f"{'would remove' if dry else 'removed'} {run.path} ({size})", flush=True)
    return EXIT_OK
