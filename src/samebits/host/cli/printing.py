"""What commands print on stdout."""

from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_DIFFERENT, EXIT_OK
from samebits.core.record import summary
from samebits.host.console import print_json, print_line, silence_stdout

if TYPE_CHECKING:
    from samebits.core.run_dir import RunDir
    from samebits.host.image.rebuild import Comparison


def print_now(*lines: str) -> None:
    """Print lines and flush them, because the next one may take minutes."""
    for line in lines:
        print_line(line, flush=True)


def print_trained(folder: "RunDir", *, as_json: bool) -> None:
    """Print the last lines of a training: run, recipe and result."""
    from samebits.host.launch.train import describe_run

    # A reader that went away (`samebits train | head`) does not make a finished run fail.
    try:
        if as_json:
            print_json(describe_run(folder), indent=None)
        else:
            print_now(*summary(folder.path, folder.read()))
    except BrokenPipeError:
        silence_stdout()


def print_comparison(comparison: "Comparison", *, as_json: bool = False) -> int:
    """Print the comparison of two images; returns the exit status, which is 1 if they differ."""
    if as_json:
        print_json(comparison.to_dict())
    else:
        # The last line alone answers the question; the lines before it explain.
        for line in comparison.differences:
            print_line(f"different {line}")
        print_line(f"{'identical' if comparison.identical else 'different'} {comparison.wanted} {comparison.found}")
    return EXIT_OK if comparison.identical else EXIT_DIFFERENT
