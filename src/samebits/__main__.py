"""Entry point of `samebits` and of `python -m samebits`."""

import sys


def main() -> int:
    """Run the command line; Ctrl-C ends it without a traceback, even while it is still being imported."""
    try:
        from samebits.host.cli.parser import main as run
    except KeyboardInterrupt:
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
