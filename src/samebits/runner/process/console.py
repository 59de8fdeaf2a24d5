"""What the runner itself prints, on stderr."""

import sys
import time

from samebits.core.file_tree import Progress

_PATIENCE = 2.0  # seconds before a line of progress
_EVERY = 10.0  # seconds between two of them


def say(what: str) -> None:
    """A line of ours on stderr, beside what the script prints."""
    print(f"samebits: {what}", file=sys.stderr)


def plain_progress(what: str) -> Progress:
    """A line on stderr now and then, from the second second on."""
    shown = time.monotonic() - _EVERY + _PATIENCE

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > _EVERY:
            shown = time.monotonic()
            say(f"{what}, {done / 2**30:.1f} of {total / 2**30:.1f} GiB")

    return progress
