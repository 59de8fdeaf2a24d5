"""Runs of several workers: how many there may be, and what does not go with them."""

import argparse

from samebits.core.errors import InputError
from samebits.core.trace_level import Trace

MAX_WORKERS = 64
"""More processes than this on one machine are a slip of the keyboard."""


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add `--workers`."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that train together and split each batch; their number changes bits (default: 1)",
    )


def check_workers(workers: int, *, gpus: bool, trial: bool, trace: Trace, every: int | None = None) -> None:
    """Raise InputError for a number of workers that cannot train, and for what several of them cannot do."""
    if not 1 <= workers <= MAX_WORKERS:
        raise InputError(f"workers must be from 1 to {MAX_WORKERS}, not {workers}")
    if workers == 1:
        return
    if gpus:
        raise InputError("several workers train on the CPU only; drop --gpus or --workers")
    if trial:
        check_one_worker(workers)
    if trace.steps:
        raise InputError(f"several workers have no trace of steps; drop --trace {trace.level} or --workers")
    if every is not None:
        raise InputError("several workers write checkpoints after epochs only; drop --checkpoint-every or --workers")


def check_one_worker(workers: int) -> None:
    """Raise InputError for the short runs of several workers."""
    if workers > 1:
        raise InputError("`check` runs one worker; drop --run, --resume and --cost, or workers in samebits.toml")


def describe_workers(workers: int) -> str:
    """Why a run of several workers cannot do what only one can."""
    return f"the run has {workers} workers"
