"""What watching for unpinned files costs in a virtual environment, in processor time of one thread (a minute)."""

import os
from collections.abc import Iterator
from functools import partial

from figures import Figure
from measuring import HERE, ROOT, Options, call, interleaved, ratios

from samebits.host.launch.venv import locked_python

CASES = {
    "new": "a file of the script's folder, the first time",
    "again": "the same file again",
    "system": "a file of the system",
    "step": "`train_on_batch` of a model with two layers",
}


def measure(options: Options) -> Iterator[Figure]:
    """Pairs of processes in turns: a hook cannot be removed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "KERAS_BACKEND": "tensorflow"}

    def printed(how: str) -> dict[str, float]:
        done = call(locked_python(), "-P", HERE / "train_watched.py", how, environment=environment)
        return {case: done.numbers(case)[0] for case in CASES}

    found = interleaved({how: partial(printed, how) for how in ("without", "with")}, options.rounds_or(7))
    for case, row in CASES.items():
        without, watched = (tuple(one[case] for one in found[how]) for how in ("without", "with"))
        yield Figure(table="processor time", row=row, column="without", unit="µs", values=without)
        yield Figure(table="processor time", row=row, column="with", unit="µs", values=watched)
        yield Figure(table="processor time", row=row, column="ratio", values=ratios(watched, without))
