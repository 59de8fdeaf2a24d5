"""Entry point of `samebits` and of `python -m samebits`."""

import sys

from samebits.host.interrupts import catch_signals, pending_status


def main() -> int:
    """Run the command line; Ctrl-C ends it without a traceback, even while it is still being imported."""
    catch_signals()
    try:
        from samebits.host.cli.parser import main as run
    except BaseException:
        # A library may have turned it into another error.
        status = pending_status()
        if status is None:
            raise
        return status
    return run()


if __name__ == "__main__":
    sys.exit(main())
