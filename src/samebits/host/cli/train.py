"""`samebits train`: train a script and record the run."""

import argparse

from samebits.core.run_config import RunConfig, add_run_options, make_config
from samebits.host.cli.options import add_json, add_runtime
from samebits.host.cli.printing import print_trained


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits train`."""
    # argparse cannot show what comes after `--`.
    parser.usage = "samebits train [options] SCRIPT [-- script's arguments]"
    add_run_options(parser)
    add_runtime(parser)
    add_json(parser, "run, recipe and result as the last line,")
    parser.set_defaults(command=lambda options: train_command(spec=make_config(vars(options)), as_json=options.json))


def train_command(*, spec: RunConfig, as_json: bool) -> int:
    """Train once; returns the exit status of the run."""
    from samebits.host.launch.train import train

    folder, status = train(spec)
    print_trained(folder, as_json=as_json)
    return status
