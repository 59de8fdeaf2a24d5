"""`samebits challenge`: two parties find where their runs diverge; files of digests go back and forth."""

import argparse
from pathlib import Path

from samebits.host.cli.options import add_data, add_json, add_offline, add_run, add_runs_folder, add_trust
from samebits.host.console import print_json


def add_challenge_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits challenge`."""
    add_run(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="our digests; the file is made, or continued")
    parser.add_argument("--against", type=Path, metavar="FILE", help="the other party's digests, to answer")
    add_data(parser)
    add_offline(parser, "if the image must be rebuilt")
    add_trust(parser)
    add_runs_folder(parser)
    add_json(parser, "what was found")
    parser.set_defaults(
        command=lambda options: challenge_command(
            run=options.run,
            file=options.file,
            against=options.against,
            runs=options.runs,
            data=options.data,
            offline=options.offline,
            trusted=tuple(options.trusted),
            as_json=options.json,
        )
    )


def challenge_command(  # noqa: PLR0913  the options of one exchange
    *,
    run: str,
    file: Path,
    against: Path | None,
    runs: Path | None,
    data: Path | None,
    offline: bool,
    trusted: tuple[str, ...],
    as_json: bool,
) -> int:
    """Write our digests, in answer to those of another party; the last line is the verdict, once there is one."""
    from samebits.host.rerun.challenge import challenge, print_exchange
    from samebits.host.rerun.request import RerunRequest
    from samebits.host.runs.registry import find_run, runs_beside, runs_folder

    kept = runs_folder(runs)
    one = find_run(run, kept)
    request = RerunRequest(runs=runs or runs_beside(one, kept), data=data, offline=offline, trusted=trusted)
    found = challenge(one, file, request, against)
    if as_json:
        print_json(found.to_dict())
    else:
        print_exchange(found)
    return found.exit_status
