"""What commands print on stdout."""

import json
from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_DIFFERENT, EXIT_OK
from samebits.core.record import summary
from samebits.host.console import silence_stdout

if TYPE_CHECKING:
    from samebits.core.run_dir import RunDir
    from samebits.host.image.rebuild import Comparison


def print_json(value: object) -> None:
    """Print indented JSON with sorted keys."""
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def print_now(line: str) -> None:
    """Print a line and flush it, because the next one may take minutes."""
    print(line, flush=True)


def print_trained(folder: "RunDir", *, as_json: bool) -> None:
    """Print the last lines of a training: run, recipe and result."""
    from samebits.host.launch.train import describe_run

    lines = json.dumps(describe_run(folder), sort_keys=True) if as_json else summary(folder.path, folder.read())
    # A reader that went away (`samebits train | head`) does not make a finished run fail.
    try:
        print(lines, flush=True)
    except BrokenPipeError:
        silence_stdout()


def print_comparison(comparison: "Comparison", *, as_json: bool = False) -> int:
    """Print the comparison of two images; returns the exit status, which is 1 if they differ."""
    if as_json:
        print_json(comparison.to_dict())
    else:
        # The last line alone answers the question; the lines before it explain.
        for line in comparison.differences:
            print(f"different {line}")
        print(f"{'identical' if comparison.identical else 'different'} {comparison.wanted} {comparison.found}")
    return EXIT_OK if comparison.identical else EXIT_DIFFERENT
