"""`samebits archive-base`: archive the base image for later rebuilds."""

import argparse

from samebits.core.errors import EXIT_OK
from samebits.host.cli.options import add_base, add_docker_only, docker_engine
from samebits.host.console import print_line

_INSTEAD = "only Docker builds images: archive their base where it is"


def add_archive_base_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `samebits archive-base`."""
    add_base(parser)
    add_docker_only(parser, _INSTEAD)
    parser.set_defaults(command=lambda options: archive_base_command(base=options.base))


def archive_base_command(*, base: str | None) -> int:
    """Archive the base image in the cache, in case its registry loses it."""
    from samebits.host.image.base_image import archive_base, default_base

    print_line(f"base {archive_base(docker_engine(_INSTEAD), base or default_base())}")
    return EXIT_OK
