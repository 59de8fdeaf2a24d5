"""Entry point of `samebits` and of `python -m samebits`."""

import sys

from samebits.host.interrupts import catch_signals, end_at_signals, pending_status


def main() -> int:
    """Run the command line; Ctrl-C ends it without a traceback, also while it is imported or ends."""
    catch_signals()
    try:
        from samebits.host.cli.parser import main as run

        return run()
    except BaseException:
        # A library may have turned it into another error.
        status = pending_status()
        if status is None:
            raise
        return status
    finally:
        end_at_signals()


if __name__ == "__main__":
    sys.exit(main())
