"""`samebits train`: train a script and record the run."""

import argparse
from typing import TYPE_CHECKING

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.run_config import RunConfig, add_run_options, make_config
from samebits.host.cli.cluster import add_on, check_on, submit_command
from samebits.host.cli.expect import add_expect, expected_status, parse_expected
from samebits.host.cli.options import add_data_cache, add_json, add_limits, add_runtime, limits_of
from samebits.host.cli.printing import print_trained

if TYPE_CHECKING:
    from samebits.host.launch.run_limits import RunLimits


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits train`."""
    # argparse cannot show what comes after `--`.
    parser.usage = "samebits train [options] SCRIPT [-- script's arguments]"
    add_run_options(parser)
    add_runtime(parser)
    add_data_cache(parser)
    parser.add_argument(
        "--redact",
        action="append",
        metavar="NAME",
        help="an option of the script, such as api-key, whose value no record holds; repeatable",
    )
    add_on(parser)
    add_limits(parser)
    add_expect(parser)
    add_json(parser, "run, recipe and result as the last line,")
    parser.set_defaults(command=_train_from_options)


def _train_from_options(options: argparse.Namespace) -> int:
    from samebits.host.launch.run_limits import USUAL

    check_on(options, ("slurm", "kubernetes"))
    expected = parse_expected(options.expect)
    spec = make_config(vars(options))
    if options.on is None:
        return train_command(spec=spec, limits=limits_of(options), expected=expected, as_json=options.json)
    if limits_of(options) != USUAL:
        raise InputError("limits are for a run on this machine; with --on slurm, use --sbatch='--time=…'")
    if spec.redacted:
        raise InputError("--redact is for a run on this machine: a job's folder holds the arguments; drop --on")
    if options.data_cache:
        raise InputError("--data-cache is for a run on this machine, as a node reads all data; drop it")
    if expected is not None:
        raise InputError("--expect is for a run on this machine; with --on, verify the run with --expect")
    return submit_command(spec, options)


def train_command(*, spec: RunConfig, limits: "RunLimits", expected: Digest | None, as_json: bool) -> int:
    """Train once; returns the exit status of the run, and 1 for another result than the expected one."""
    from samebits.host.launch.train import train

    folder, status = train(spec, limits)
    print_trained(folder, as_json=as_json)
    return expected_status(folder, expected, status)
