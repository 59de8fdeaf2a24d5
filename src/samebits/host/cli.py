"""The command line: `samebits build | train | diff | fingerprint | attest | rebuild | archive-base | list | show`."""

import argparse
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from samebits import __version__
from samebits.errors import (
    EXIT_DIFFERENT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TERMINATED,
    InputError,
    SamebitsError,
    Terminated,
)
from samebits.profile import PORTABLE
from samebits.record import summary
from samebits.spec import OneLineParser, RunSpec, add_run_options, make_spec, split_arguments

if TYPE_CHECKING:
    from samebits.host.rebuild import Comparison

_EPILOG = (
    """exit status: 0 done, 1 the script failed, or what was compared differs, 2 an error, 130 Ctrl-C, 143 SIGTERM"""
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; the only place where an error becomes one."""
    signal.signal(signal.SIGTERM, _terminate)
    warnings.showwarning = lambda message, *_: print(f"samebits: {message}", file=sys.stderr)
    try:
        words, script_arguments = split_arguments(sys.argv[1:] if argv is None else argv)
        options = make_parser().parse_args(words)
        if script_arguments is not None and "script" not in options:
            raise InputError("only `samebits train` takes arguments after --; remove them")
        options.arguments = script_arguments
        status = int(options.command(options))
        sys.stdout.flush()
        return status
    except SamebitsError as error:
        print(f"samebits: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED
    except BrokenPipeError:  # `samebits list | head`; what is left must not fail once more on the way out
        _silence_stdout()
        return EXIT_OK


def _silence_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = OneLineParser(
        prog="samebits", description="Train a Keras model, and get the same bits again.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"samebits {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_build(commands.add_parser("build", help="build the image from the lock"))
    _add_train(commands.add_parser("train", help="train a script and seal a record of it", epilog=_EPILOG))
    _add_diff(commands.add_parser("diff", help="say what differs between two runs, inputs and outputs"))
    _add_fingerprint(commands.add_parser("fingerprint", help="say how this machine computes, against the table"))
    _add_attest(
        commands.add_parser("attest", help="train the portable profile's families, and add this CPU to the table")
    )
    _add_rebuild(commands.add_parser("rebuild", help="make a run's image again from what the run keeps, and compare"))
    _add_archive_base(commands.add_parser("archive-base", help="keep the base image for later rebuilds"))
    _add_list(commands.add_parser("list", help="list the runs"))
    _add_show(commands.add_parser("show", help="show one run"))
    return parser


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpu", action="store_true", help="the image with CUDA and cuDNN")
    parser.add_argument("--check", action="store_true", help="build twice without cache, and compare file by file")
    parser.add_argument("--offline", action="store_true", help="use no network: wheels and base must be here")
    parser.add_argument("--tag", metavar="NAME", help="the image's name (default: samebits:cpu, or samebits:gpu)")
    parser.add_argument("--base", metavar="IMAGE", help="the base (default: $SAMEBITS_BASE, else the pinned one)")
    parser.add_argument("--json", action="store_true", help="print the image's digests as JSON")
    parser.set_defaults(
        command=lambda options: build_command(
            gpu=options.gpu,
            check=options.check,
            offline=options.offline,
            tag=options.tag,
            base=options.base,
            as_json=options.json,
        )
    )


def _add_rebuild(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder, its id, the beginning of one, or last")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where runs are kept (default: runs/)")
    parser.add_argument("--offline", action="store_true", help="use no network: wheels and base must be here")
    parser.set_defaults(
        command=lambda options: rebuild_command(run=options.run, runs=options.runs, offline=options.offline)
    )


def _add_archive_base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", metavar="IMAGE", help="the base (default: $SAMEBITS_BASE, else the pinned one)")
    parser.set_defaults(command=lambda options: archive_base_command(base=options.base))


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.usage = "samebits train [options] SCRIPT [-- script's arguments]"
    add_run_options(parser)
    parser.add_argument("--image", metavar="NAME", help="the image (default: samebits:cpu, with --gpus samebits:gpu)")
    parser.add_argument("--gpus", metavar="all|N", help="ask the engine for GPUs")
    parser.add_argument(
        "--runtime", metavar="KIND", help="docker, venv, or auto: docker where an engine answers (default)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print run, recipe and result as one line of JSON at the end"
    )
    parser.set_defaults(command=lambda options: train_command(spec=make_spec(vars(options)), as_json=options.json))


def _add_diff(parser: argparse.ArgumentParser) -> None:
    for name in ("one", "other"):
        parser.add_argument(name, metavar="RUN", help="a run's folder, its id, the beginning of one, or last")
    _add_runs(parser)
    parser.set_defaults(
        command=lambda options: diff_command(
            one=options.one, other=options.other, runs=options.runs, as_json=options.json
        )
    )


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", metavar="NAME", help="the image (default: samebits:cpu)")
    parser.add_argument("--runtime", default="auto", metavar="KIND", help="docker, venv, or auto (default)")


def _add_fingerprint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default=PORTABLE, metavar="NAME", help="portable (default), or native")
    _add_runtime(parser)
    parser.add_argument("--json", action="store_true", help="print every operation's digest as JSON")
    parser.set_defaults(
        command=lambda options: fingerprint_command(
            profile=options.profile, image=options.image, runtime=options.runtime, as_json=options.json
        )
    )


def _add_attest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder with train.py and golden.json")
    _add_runtime(parser)
    parser.set_defaults(
        command=lambda options: attest_command(folder=options.folder, image=options.image, runtime=options.runtime)
    )


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_runs(parser)
    parser.set_defaults(command=lambda options: list_command(runs=options.runs, as_json=options.json))


def _add_show(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("run", nargs="?", metavar="RUN", help="a run's folder, its id, the beginning of one, or last")
    what.add_argument(
        "--image", nargs="?", const="samebits:cpu", metavar="NAME", help="an image (samebits:cpu); its SBOM with --json"
    )
    _add_runs(parser)
    parser.set_defaults(
        command=lambda options: (
            show_image_command(image=options.image, as_json=options.json)
            if options.image is not None
            else show_command(run=options.run, runs=options.runs, as_json=options.json)
        )
    )


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where runs are kept (default: runs/)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def build_command(*, gpu: bool, check: bool, offline: bool, tag: str | None, base: str | None, as_json: bool) -> int:
    """Build the image where it is not there yet, or find out whether it builds to the same digest twice."""
    from samebits.host.engine import Engine
    from samebits.host.image import build, identify, plan_build
    from samebits.host.rebuild import build_twice
    from samebits.host.source import CPU, GPU

    engine = Engine()
    plan = plan_build(engine, GPU if gpu else CPU, tag=tag, base=base)
    if check:
        return _print_comparison(build_twice(engine, plan, offline=offline))
    image = build(engine, plan, offline=offline)
    _, identity = identify(engine, plan.tag)
    digests = {"config": identity.config, "base": identity.base, "lock": identity.lock, "source": identity.source}
    if as_json:
        _print_json({"tag": plan.tag, "id": image.id} | {name: str(digest) for name, digest in digests.items()})
    else:
        print(f"image {plan.tag} {identity.config}")
    return EXIT_OK


def rebuild_command(*, run: str, runs: Path | None, offline: bool) -> int:
    """Make a run's image again from what the run keeps, and compare digests."""
    from samebits.host.engine import Engine
    from samebits.host.rebuild import rebuild
    from samebits.host.runs import find_run, runs_folder

    return _print_comparison(rebuild(Engine(), find_run(run, runs_folder(runs)), offline=offline))


def archive_base_command(*, base: str | None) -> int:
    """Keep the base image, against the day when its registry has lost it."""
    from samebits.host.base import archive_base, default_base
    from samebits.host.engine import Engine

    print(f"base {archive_base(Engine(), base or default_base())}")
    return EXIT_OK


def _print_comparison(comparison: "Comparison") -> int:
    """Say identical, or name what differs; like diff, different is status 1."""
    for line in comparison.differences:
        print(f"different {line}")
    verdict = "identical" if comparison.identical else "different"
    print(f"{verdict} {comparison.wanted} {comparison.found}")
    return EXIT_OK if comparison.identical else EXIT_DIFFERENT


def train_command(*, spec: RunSpec, as_json: bool) -> int:
    """Train, and end with the three lines."""
    from samebits.host.train import describe_run, train

    folder, status = train(spec)
    lines = json.dumps(describe_run(folder), sort_keys=True) if as_json else summary(folder.path, folder.read())
    try:
        print(lines, flush=True)
    except BrokenPipeError:  # the reader went away, and the run counts all the same
        _silence_stdout()
    return status


def diff_command(*, one: str, other: str, runs: Path | None, as_json: bool) -> int:
    """Say what differs between two runs; like diff, status 1 where something does."""
    from samebits.host.diff import diff, print_differences
    from samebits.host.runs import find_run, runs_folder

    differences = diff(*(find_run(name, runs_folder(runs)) for name in (one, other)))
    if as_json:
        _print_json([difference.to_dict() for difference in differences])
    else:
        print_differences(differences)
    return EXIT_DIFFERENT if differences else EXIT_OK


def fingerprint_command(*, profile: str, image: str | None, runtime: str, as_json: bool) -> int:
    """Compute about a hundred operations; status 1 where the portable profile promises other digests."""
    from samebits.host.train import fingerprint

    return fingerprint(RunSpec(script=Path(), profile=profile, image=image, runtime=runtime), as_json=as_json)


def attest_command(*, folder: Path, image: str | None, runtime: str) -> int:
    """Train what the table holds; status 1 where this machine reaches other digests."""
    from samebits.host.attest import attest

    different = attest(folder, runtime=runtime, image=image)
    for name in different:
        print(f"different {name}")
    print("different" if different else "identical")
    return EXIT_DIFFERENT if different else EXIT_OK


def list_command(*, runs: Path | None, as_json: bool) -> int:
    """List the runs of a folder."""
    from samebits.host.runs import list_runs, read_runs, runs_folder, summarise

    runs = runs_folder(runs)
    if as_json:
        _print_json([summarise(folder, record) for folder, record in read_runs(runs)])
    else:
        list_runs(runs)
    return EXIT_OK


def show_command(*, run: str, runs: Path | None, as_json: bool) -> int:
    """Show one run; `--json` gives the whole record."""
    from samebits.host.runs import find_run, run_as_json, runs_folder, show_run

    folder = find_run(run, runs_folder(runs))
    if as_json:
        _print_json(run_as_json(folder))
    else:
        show_run(folder)
    return EXIT_OK


def show_image_command(*, image: str, as_json: bool) -> int:
    """Show what an image is made of; `--json` gives its CycloneDX bill of materials."""
    from samebits.host.engine import Engine
    from samebits.host.image import find, remembered
    from samebits.host.runs import show_image
    from samebits.host.sbom import bill_of_materials, read_packages

    engine = Engine()
    found = find(engine, image)
    if as_json:
        print(bill_of_materials(engine, found))
    else:
        show_image(found, remembered(found), read_packages(engine, found))
    return EXIT_OK


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))
