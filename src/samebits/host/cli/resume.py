"""`samebits resume`: resume an unfinished run, after a proof that its last checkpoint can be reproduced."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.host.cli.options import (
    add_data,
    add_json,
    add_limits,
    add_offline,
    add_run,
    add_runs_folder,
    add_trust,
    limits_of,
)
from samebits.host.cli.printing import print_trained

if TYPE_CHECKING:
    from samebits.host.launch.run_limits import RunLimits
    from samebits.host.rerun.resume import ResumeOptions


def add_resume_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits resume`."""
    add_run(parser)
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="begin at the last checkpoint, and skip the proof that its epoch can be reproduced; this is recorded",
    )
    parser.add_argument("--retry-failed", action="store_true", help="also resume a run whose script failed by itself")
    parser.add_argument(
        "--ended", action="store_true", help="the run has ended, though its machine cannot be seen from here"
    )
    add_data(parser)
    add_offline(parser, "if the image must be rebuilt")
    add_trust(parser)
    add_limits(parser)
    add_runs_folder(parser)
    add_json(parser, "run, recipe and result as the last line,")
    parser.set_defaults(command=_resume_from_options)


def _resume_from_options(options: argparse.Namespace) -> int:
    from samebits.host.rerun.resume import ResumeOptions

    return resume_command(
        run=options.run,
        runs=options.runs,
        data=options.data,
        offline=options.offline,
        trusted=tuple(options.trusted),
        how=ResumeOptions(trust=options.trust_checkpoint, retry=options.retry_failed, ended=options.ended),
        limits=limits_of(options),
        as_json=options.json,
    )


def resume_command(  # noqa: PLR0913  the options of one resumption
    *,
    run: str,
    runs: Path | None,
    data: Path | None,
    offline: bool,
    trusted: tuple[str, ...],
    how: "ResumeOptions",
    limits: "RunLimits",
    as_json: bool,
) -> int:
    """Resume an unfinished run as a new run; returns the exit status of the new one."""
    from samebits.host.rerun.request import RerunRequest
    from samebits.host.rerun.resume import resume
    from samebits.host.runs.registry import find_run, runs_beside, runs_folder

    kept = runs_folder(runs)
    one = find_run(run, kept)
    request = RerunRequest(
        runs=runs or runs_beside(one, kept), data=data, offline=offline, trusted=trusted, limits=limits
    )
    folder, status = resume(one, request, how)
    print_trained(folder, as_json=as_json)
    return status
