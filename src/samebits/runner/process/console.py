"""The runner's own messages, on stderr."""

import sys
import time

from samebits.core.file_tree import Progress

_QUIET_SECONDS = 2.0  # before the first line of progress
_REPORT_SECONDS = 10.0  # between two lines of progress


def log(message: str) -> None:
    """Print a message on stderr, marked as not coming from the script."""
    print(f"samebits: {message}", file=sys.stderr)


def plain_progress(task: str) -> Progress:
    """Progress as a line on stderr every few seconds; none for a task that ends within two seconds."""
    # As if a line had been printed earlier, so that the first one comes after two seconds.
    shown = time.monotonic() - _REPORT_SECONDS + _QUIET_SECONDS

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > _REPORT_SECONDS:
            shown = time.monotonic()
            log(f"{task}, {done / 2**30:.1f} of {total / 2**30:.1f} GiB")

    return progress
