"""`samebits rebuild`: rebuild a run's image from the run's folder, and compare."""

import argparse
from pathlib import Path

from samebits.host.cli.options import add_offline, add_run, add_runs_folder
from samebits.host.cli.printing import print_comparison


def add_rebuild_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits rebuild`."""
    add_run(parser)
    add_runs_folder(parser)
    add_offline(parser)
    parser.set_defaults(
        command=lambda options: rebuild_command(run=options.run, runs=options.runs, offline=options.offline)
    )


def rebuild_command(*, run: str, runs: Path | None, offline: bool) -> int:
    """Rebuild a run's image and compare it with the recorded digest; status 1 if it differs."""
    from samebits.host.docker import Engine
    from samebits.host.image.rebuild import rebuild
    from samebits.host.runs.registry import find_run, runs_folder

    return print_comparison(rebuild(Engine(), find_run(run, runs_folder(runs)), offline=offline))
