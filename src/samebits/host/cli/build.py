"""`samebits build`: build the image from the lock."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_OK
from samebits.host.cli.options import add_base, add_docker_only, add_json, add_offline, docker_engine
from samebits.host.cli.printing import print_comparison
from samebits.host.console import print_json, print_line

if TYPE_CHECKING:
    from samebits.host.image.build_context import ImageKind

_INSTEAD = (
    "only Docker builds images: build where it is, then move the image here with `docker save`, or push it and name it:"
    " --image NAME@sha256:..."
)


def add_build_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `samebits build`."""
    parser.add_argument(
        "script", nargs="?", type=Path, metavar="SCRIPT", help="build the image of this script's project, from its lock"
    )
    add_docker_only(parser, _INSTEAD)
    parser.add_argument("--gpu", action="store_true", help="build the image for GPUs, with CUDA and cuDNN")
    parser.add_argument("--check", action="store_true", help="build twice without cache, and compare file by file")
    add_offline(parser)
    parser.add_argument("--tag", metavar="NAME", help="the image's name (default: samebits:cpu or samebits:gpu)")
    add_base(parser)
    add_json(parser, "the image's digests, or the result of --check,")
    parser.set_defaults(
        command=lambda options: build_command(
            kind=_kind(options.script, gpu=options.gpu),
            check=options.check,
            offline=options.offline,
            tag=options.tag,
            base=options.base,
            as_json=options.json,
        )
    )


def _kind(script: Path | None, *, gpu: bool) -> "ImageKind":
    """The image of a script's project; without a script, samebits's own."""
    from samebits.core.code_tree import read_script
    from samebits.core.run_config import make_config
    from samebits.host.image.build_context import CPU, GPU
    from samebits.host.image.project_lock import project_kind

    if script is None:
        return GPU if gpu else CPU
    read_script(script)  # a misspelled name must not build another project's image, or the usual one
    return project_kind(make_config({"script": script, "gpus": "all" if gpu else None}, fetched=False))


def build_command(
    *, kind: "ImageKind", check: bool, offline: bool, tag: str | None, base: str | None, as_json: bool
) -> int:
    """Build the image unless it is up to date; with `check`, build twice and compare the digests."""
    from samebits.host.image.build import build, plan_build
    from samebits.host.image.identify import identify
    from samebits.host.image.rebuild import build_twice

    engine = docker_engine(_INSTEAD)
    plan = plan_build(engine, kind, tag=tag, base=base)
    if check:
        return print_comparison(build_twice(engine, plan, offline=offline), as_json=as_json)
    image = build(engine, plan, offline=offline)
    _, identity = identify(engine, plan.tag, kind)
    digests = {"config": identity.config, "base": identity.base, "lock": identity.lock, "source": identity.source}
    if as_json:
        print_json({"tag": plan.tag, "id": image.id} | {name: str(digest) for name, digest in digests.items()})
    else:
        print_line(f"image {plan.tag} {identity.config}")
    return EXIT_OK
