"""`samebits fingerprint`: compute about a hundred operations, and compare their digests with the portable table."""

import argparse
from pathlib import Path

from samebits.core.determinism_profile import PORTABLE
from samebits.core.run_config import RunConfig
from samebits.host.cli.options import add_json, add_runtime_kind
from samebits.host.console import print_line


def add_fingerprint_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `samebits fingerprint`."""
    parser.add_argument("--profile", default=PORTABLE, metavar="NAME", help="portable (default) or native")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="size of TensorFlow's thread pools (default: the profile's)"
    )
    parser.add_argument("--image", metavar="NAME", help="the image (default: samebits:cpu)")
    add_runtime_kind(parser)
    add_json(parser, "the digest of every operation")
    parser.set_defaults(
        command=lambda options: fingerprint_command(
            profile=options.profile,
            threads=options.threads,
            image=options.image,
            runtime=options.runtime or "auto",
            as_json=options.json,
        )
    )


def fingerprint_command(*, profile: str, threads: int | None, image: str | None, runtime: str, as_json: bool) -> int:
    """Print how this machine computes; status 1 if the portable profile guarantees other digests."""
    from samebits.host.launch.runtime import choose_runtime

    # No script is run: the configuration carries profile, threads and runtime only.
    spec = RunConfig(script=Path(), profile=profile, threads=threads, image=image, runtime=runtime)
    chosen = choose_runtime(spec)
    chosen.prepare()
    number = str(spec.determinism.threads)
    arguments = ("fingerprint", "--profile", spec.profile, "--threads", number, *(("--json",) if as_json else ()))
    status, output = chosen.query(arguments, spec.determinism.variables)
    for line in output.splitlines():
        print_line(line)
    return status
