"""`samebits attest`: train the portable profile's model families, and compare the results with the committed table."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_DIFFERENT, EXIT_OK
from samebits.host.cli.options import add_runtime_kind
from samebits.host.console import print_line


def add_attest_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits attest`."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder with train.py and golden.json")
    parser.add_argument("--image", metavar="NAME", help="the image (default: samebits:cpu)")
    add_runtime_kind(parser)
    parser.set_defaults(
        command=lambda options: attest_command(
            folder=options.folder, image=options.image, runtime=options.runtime or "auto"
        )
    )


def attest_command(*, folder: Path, image: str | None, runtime: str) -> int:
    """Train every model of the table, and add this CPU to the table; status 1 if a result differs."""
    from samebits.host.rerun.golden import attest

    different = attest(folder, runtime=runtime, image=image)
    for name in different:
        print_line(f"different {name}")
    print_line("different" if different else "identical")
    return EXIT_DIFFERENT if different else EXIT_OK
