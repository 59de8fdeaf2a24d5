"""`samebits pack` and `samebits unpack`: a run as one file, and its files again."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_OK, InputError, shorten
from samebits.host.cli.options import add_data, add_docker_only, add_run, add_runs_folder
from samebits.host.console import print_line


def add_pack_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits pack`."""
    add_run(parser)
    add_docker_only(
        parser,
        "images are packed from Docker or Podman: pack where the image is, or leave it out with"
        " --without image --without base",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the capsule (default: named by the run)")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="PART",
        help="leave out image, base, wheels, data, inputs or checkpoints; repeatable",
    )
    add_data(parser)
    add_store(parser, "keep layers and wheels there, once for all capsules")
    add_runs_folder(parser)
    parser.set_defaults(command=_pack_from_options)


def add_unpack_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits unpack`."""
    parser.add_argument("capsule", type=Path, metavar="FILE", help="a capsule")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="a new folder (default: named by the capsule)")
    add_store(parser)
    parser.set_defaults(
        command=lambda options: unpack_command(capsule=options.capsule, target=options.output, store=options.store)
    )


def add_store(parser: argparse.ArgumentParser, text: str = "the folder of what a capsule shares with others") -> None:
    """Add `--store`."""
    parser.add_argument("--store", type=Path, metavar="DIR", help=text)


def _pack_from_options(options: argparse.Namespace) -> int:
    return pack_command(
        name=options.run,
        target=options.output,
        without=options.without,
        data=options.data,
        store=options.store,
        runs=options.runs,
    )


def pack_command(
    *, name: str, target: Path | None, without: list[str], data: Path | None, store: Path | None, runs: Path | None
) -> int:
    """Write a capsule, and print its path and its digest."""
    from samebits.host.capsule.contents import PARTS
    from samebits.host.capsule.pack import SUFFIX, PackOptions, pack
    from samebits.host.runs.registry import find_run, runs_folder

    parts = tuple(part for words in without for part in words.split(","))
    if unknown := [part for part in parts if part not in PARTS]:
        raise InputError(f"--without takes {shorten(PARTS, len(PARTS))}, not {unknown[0]!r}")
    run = find_run(name, runs_folder(runs))
    target = target or Path(f"{run.path.absolute().name}{SUFFIX}")
    capsule = pack(run, target, PackOptions(without=parts, data=data, store=store))
    print_line(f"capsule {target}")
    print_line(f"digest {capsule.digest}")
    return EXIT_OK


def unpack_command(*, capsule: Path, target: Path | None, store: Path | None) -> int:
    """Unpack a capsule after every byte was checked, and print where its run is."""
    from samebits.host.capsule.pack import SUFFIX
    from samebits.host.capsule.unpack import unpack

    found = unpack(capsule, target or Path(capsule.name.removesuffix(SUFFIX).removesuffix(".tar")), store)
    print_line(f"run {found.run.path}")
    print_line(f"digest {found.contents.digest}")
    return EXIT_OK
