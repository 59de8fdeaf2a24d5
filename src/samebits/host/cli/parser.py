"""The command line: `samebits build | check | train | verify | preflight | diff | …`."""

import argparse
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from samebits import __version__
from samebits.core.determinism_profile import PORTABLE
from samebits.core.errors import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TERMINATED,
    InputError,
    SamebitsError,
    Terminated,
)
from samebits.core.run_config import OneLineParser, add_recipe_options, add_run_options, make_config, split_arguments
from samebits.core.trial import FEWEST_TIMED
from samebits.host.cli.commands import (
    archive_base_command,
    attest_command,
    build_command,
    check_command,
    diff_command,
    fingerprint_command,
    list_command,
    preflight_command,
    rebuild_command,
    resume_command,
    show_command,
    show_image_command,
    train_command,
    verify_command,
    verify_segments_command,
)
from samebits.host.console import silence_stdout

_EPILOG = (
    "exit status: 0 done, 1 the script failed, or what was compared differs, 2 an error, 3 not comparable,"
    " 130 Ctrl-C, 143 SIGTERM"
)
_RUN = "a run's folder, its id, the beginning of one, or last"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; the only place where an error becomes one."""
    signal.signal(signal.SIGTERM, _terminate)
    warnings.showwarning = lambda message, *_: print(f"samebits: {message}", file=sys.stderr)
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except SamebitsError as error:
        print(f"samebits: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED
    except BrokenPipeError:  # `samebits list | head`; what is left must not fail once more on the way out
        silence_stdout()
        return EXIT_OK
    except Exception:  # noqa: BLE001  a defect of ours must not read as an error of the user's
        traceback.print_exc()
        print("samebits: a defect of samebits itself; please report it", file=sys.stderr)
        return EXIT_ERROR


def _run(argv: Sequence[str]) -> int:
    words, script_arguments = split_arguments(argv)
    options = make_parser().parse_args(words)
    if script_arguments is not None and "script" not in options:
        raise InputError("only `samebits train` takes arguments after --; remove them")
    options.arguments = script_arguments
    status = int(options.command(options))
    sys.stdout.flush()
    return status


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
    _add_check(commands.add_parser("check", help="find what in a script breaks reproducibility", epilog=_EPILOG))
    _add_resume(
        commands.add_parser(
            "resume", help="go on with a run that did not finish, to the same bits as without", epilog=_EPILOG
        )
    )
    _add_verify(
        commands.add_parser("verify", help="train a run again, and say whether the same came out", epilog=_EPILOG)
    )
    _add_preflight(
        commands.add_parser("preflight", help="say whether this host can reproduce a run, before it is tried")
    )
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
    parser.add_argument("--json", action="store_true", help="print the image's digests, or what --check found, as JSON")
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
    parser.add_argument("run", metavar="RUN", help=_RUN)
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
    _add_place(parser)
    parser.add_argument(
        "--json", action="store_true", help="print run, recipe and result as one line of JSON at the end"
    )
    parser.set_defaults(command=lambda options: train_command(spec=make_config(vars(options)), as_json=options.json))


def _add_place(parser: argparse.ArgumentParser) -> None:
    """Where a script is trained."""
    parser.add_argument("--image", metavar="NAME", help="the image (default: samebits:cpu, with --gpus samebits:gpu)")
    parser.add_argument("--gpus", metavar="all|N", help="ask the engine for GPUs")
    parser.add_argument(
        "--runtime", metavar="KIND", help="docker, venv, or auto: docker where an engine answers (default)"
    )


def _add_resume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help=_RUN)
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the data is now (default: where it was)")
    parser.add_argument("--offline", action="store_true", help="use no network, should the image have to be rebuilt")
    _add_runs(parser)
    parser.set_defaults(
        command=lambda options: resume_command(
            run=options.run, runs=options.runs, data=options.data, offline=options.offline, as_json=options.json
        )
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.usage = "samebits check [options] SCRIPT [-- script's arguments]"
    parser.add_argument("--format", default="text", metavar="FORM", help="text (default), json or sarif")
    parser.add_argument(
        "--run", action="store_true", help="make two short runs in other surroundings, too, and say what parts them"
    )
    parser.add_argument(
        "--cost", action="store_true", help="measure what each determinism setting costs this training, too"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="steps of a short run (default: 5, with --cost 40)")
    parser.add_argument("--rounds", type=int, metavar="N", help="with --cost: how often each is measured (default: 3)")
    add_recipe_options(parser)
    _add_place(parser)
    parser.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    if options.format not in ("text", "json", "sarif"):
        raise InputError(f"--format is text, json or sarif, not {options.format!r}")
    runs = options.run or options.cost
    for name, value in (("--steps", options.steps), ("arguments after --", options.arguments)):
        if value is not None and not runs:
            raise InputError(f"without --run or --cost nothing is run: {name} cannot be used; add one of them")
    if options.rounds is not None and not options.cost:
        raise InputError("--rounds is for --cost; add it")
    fewest = FEWEST_TIMED if options.cost else 1
    for name, number, least in (("--steps", options.steps, fewest), ("--rounds", options.rounds, 1)):
        if number is not None and number < least:
            raise InputError(f"{name} must be {least} or more, not {number}")
    return check_command(
        spec=make_config(vars(options)),
        form=options.format,
        run=options.run,
        cost=options.cost,
        steps=options.steps,
        rounds=options.rounds,
    )


def _add_diff(parser: argparse.ArgumentParser) -> None:
    for name in ("one", "other"):
        parser.add_argument(name, metavar="RUN", help=_RUN)
    _add_runs(parser)
    parser.set_defaults(
        command=lambda options: diff_command(
            one=options.one, other=options.other, runs=options.runs, as_json=options.json
        )
    )


def _add_repeat(parser: argparse.ArgumentParser) -> None:
    """What `verify` and `preflight` share."""
    parser.add_argument("run", metavar="RUN", help=_RUN)
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the data is now (default: where it was)")
    parser.add_argument("--goal", metavar="GRADE", help="bitwise, metrics or documented (default: the recorded one)")
    _add_runs(parser)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_repeat(parser)
    parser.add_argument(
        "--rel",
        action="append",
        default=[],
        metavar="[METRIC=]X",
        help="with --goal metrics: how far a final value may be off, as a part of it (default: 0.001)",
    )
    parser.add_argument(
        "--abs",
        action="append",
        default=[],
        metavar="[METRIC=]X",
        help="the same as a number (default: 0); within either is within",
    )
    parser.add_argument("--against", metavar="RUN", help="judge this run instead of a new one")
    parser.add_argument(
        "--locate", action="store_true", help="where they differ, train both again, and name step, tensor and layer"
    )
    parser.add_argument("--offline", action="store_true", help="use no network, should the image have to be rebuilt")
    parser.add_argument(
        "--segments",
        action="store_true",
        help="execute it from checkpoint to checkpoint; name the segment that differs",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="with --segments: so many at a time (default: 1)")
    parser.add_argument("--sample", type=int, metavar="K", help="with --segments: only K of them, drawn at random")
    parser.add_argument("--sample-seed", type=int, metavar="S", help="the seed they are drawn with (default: 0)")
    parser.set_defaults(command=_verify)


def _verify(options: argparse.Namespace) -> int:
    """As a whole, or in segments; what belongs to the other of the two is refused."""
    strange = (
        ("--against", options.against), ("--locate", options.locate), ("--rel", options.rel), ("--abs", options.abs)
    ) if options.segments else (
        ("--jobs", options.jobs), ("--sample", options.sample), ("--sample-seed", options.sample_seed)
    )  # fmt: skip
    for name, value in strange:
        if value is not None and value is not False and value != []:
            raise InputError(
                f"--segments and {name} do not go together; leave one out"
                if options.segments
                else f"{name} is for a verification in segments; add --segments"
            )
    if not options.segments:
        return verify_command(
            run=options.run,
            against=options.against,
            runs=options.runs,
            goal=options.goal,
            data=options.data,
            tolerances=(options.rel, options.abs),
            offline=options.offline,
            locate=options.locate,
            as_json=options.json,
        )
    if options.sample_seed is not None and options.sample is None:
        raise InputError("--sample-seed is for a sample; add --sample K")
    return verify_segments_command(
        run=options.run,
        runs=options.runs,
        goal=options.goal,
        data=options.data,
        offline=options.offline,
        jobs=1 if options.jobs is None else options.jobs,
        sample=options.sample,
        seed=options.sample_seed or 0,
        as_json=options.json,
    )


def _add_preflight(parser: argparse.ArgumentParser) -> None:
    _add_repeat(parser)
    parser.set_defaults(
        command=lambda options: preflight_command(
            run=options.run, runs=options.runs, goal=options.goal, data=options.data, as_json=options.json
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
    what.add_argument("run", nargs="?", metavar="RUN", help=_RUN)
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
