"""`samebits archive-base`: archive the base image for later rebuilds."""

import argparse

from samebits.core.errors import EXIT_OK
from samebits.host.cli.options import add_base
from samebits.host.console import print_line


def add_archive_base_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `samebits archive-base`."""
    add_base(parser)
    parser.set_defaults(command=lambda options: archive_base_command(base=options.base))


def archive_base_command(*, base: str | None) -> int:
    """Archive the base image in the cache, in case its registry loses it."""
    from samebits.host.docker import Engine
    from samebits.host.image.base_image import archive_base, default_base

    print_line(f"base {archive_base(Engine(), base or default_base())}")
    return EXIT_OK
