"""`samebits resume`: resume an unfinished run from its last checkpoint."""

import argparse
from pathlib import Path

from samebits.host.cli.options import add_data, add_json, add_offline, add_run, add_runs_folder
from samebits.host.cli.printing import print_trained


def add_resume_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits resume`."""
    add_run(parser)
    add_data(parser)
    add_offline(parser, "if the image must be rebuilt")
    add_runs_folder(parser)
    add_json(parser, "run, recipe and result as the last line,")
    parser.set_defaults(
        command=lambda options: resume_command(
            run=options.run, runs=options.runs, data=options.data, offline=options.offline, as_json=options.json
        )
    )


def resume_command(*, run: str, runs: Path | None, data: Path | None, offline: bool, as_json: bool) -> int:
    """Resume an unfinished run as a new run; returns the exit status of the new one."""
    from samebits.host.rerun.request import RerunRequest
    from samebits.host.rerun.resume import resume
    from samebits.host.runs.registry import find_run, runs_beside, runs_folder

    kept = runs_folder(runs)
    one = find_run(run, kept)
    folder, status = resume(one, RerunRequest(runs=runs or runs_beside(one, kept), data=data, offline=offline))
    print_trained(folder, as_json=as_json)
    return status
