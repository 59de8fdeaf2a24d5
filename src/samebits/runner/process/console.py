"""What the runner itself prints, on stderr."""

import sys
import time

from samebits.core.file_tree import Progress

_QUIET_SECONDS = 2.0  # seconds before a line of progress
_REPORT_SECONDS = 10.0  # seconds between two of them


def log(what: str) -> None:
    """A line of ours on stderr, beside what the script prints."""
    print(f"samebits: {what}", file=sys.stderr)


def plain_progress(what: str) -> Progress:
    """A line on stderr now and then, from the second second on."""
    shown = time.monotonic() - _REPORT_SECONDS + _QUIET_SECONDS

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > _REPORT_SECONDS:
            shown = time.monotonic()
            log(f"{what}, {done / 2**30:.1f} of {total / 2**30:.1f} GiB")

    return progress
