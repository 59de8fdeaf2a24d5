"""`samebits verify`: train a run again, in one go or in segments, and compare the results."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.run_config import BITWISE, add_level_option, check_level
from samebits.host.cli.cluster import check_on
from samebits.host.cli.expect import add_expect, expected_status, parse_expected
from samebits.host.cli.options import (
    RUN_HELP,
    add_data,
    add_html,
    add_json,
    add_limits,
    add_offline,
    add_runs_folder,
    add_trust,
    limits_of,
)
from samebits.host.cli.pack import add_store
from samebits.host.cli.printing import print_now
from samebits.host.cli.sign import add_require_signed, signature_check
from samebits.host.console import print_json

if TYPE_CHECKING:
    from samebits.host.launch.run_limits import RunLimits
    from samebits.host.rerun.verify import Verification
    from samebits.host.sweep.sweep_file import SweepDir

_OF_A_RUN = (
    *("against", "locate", "segments", "jobs", "html", "on", "sbatch", "expect"),
    *("require_signed", "require_signed_by", "issuer", "trust_config"),
    *("max_hours", "max_disk"),
)
"""Options that a sweep is not verified with."""


def add_verify_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits verify`."""
    parser.add_argument("run", metavar="RUN", help=f"{RUN_HELP}; a sweep, or a capsule")
    add_data(parser)
    add_level_option(parser, "bitwise, metrics or documented (default: the recorded level)")
    _add_tolerances(parser)
    # Options of both modes are accepted here, and combinations refused in `_refuse_other_mode`.
    parser.add_argument("--against", metavar="RUN", help="compare with this run instead of training again")
    parser.add_argument(
        "--locate", action="store_true", help="if they differ, train both again and find the first step and tensor"
    )
    add_offline(parser, "if the image must be rebuilt")
    add_trust(parser)
    add_limits(parser)
    _add_segments(parser)
    add_store(parser)
    add_require_signed(parser)
    add_expect(parser)
    add_runs_folder(parser)
    add_json(parser, "the verdict")
    add_html(parser)
    parser.set_defaults(command=_verify_from_options)


def _add_tolerances(parser: argparse.ArgumentParser) -> None:
    """Add `--rel` and `--abs`, which may be repeated."""
    parser.add_argument(
        "--rel",
        action="append",
        default=[],
        metavar="[METRIC=]X",
        help="with --level metrics: relative tolerance of final values (default: 0.001)",
    )
    parser.add_argument(
        "--abs",
        action="append",
        default=[],
        metavar="[METRIC=]X",
        help="with --level metrics: absolute tolerance (default: 0); a value within either passes",
    )


def _add_segments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a verification in segments."""
    parser.add_argument(
        "--segments", action="store_true", help="train each segment between two checkpoints; list those that differ"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="with --segments: segments in parallel (default: 1)")
    parser.add_argument(
        "--sample", type=int, metavar="K", help="with --segments, or of a sweep's runs: only K of them, drawn at random"
    )
    parser.add_argument("--on", metavar="CLUSTER", help="with --segments: train them on a cluster: slurm")
    parser.add_argument("--sbatch", metavar="FLAGS", help="with --on slurm: flags for sbatch: --sbatch='--time=60 …'")
    parser.add_argument("--sample-seed", type=int, metavar="S", help="with --sample: the seed of the draw (default: 0)")


def _verify_from_options(options: argparse.Namespace) -> int:
    from samebits.host.runs.registry import runs_folder
    from samebits.host.sweep.sweep_file import find_sweep

    sweep = find_sweep(options.run, runs_folder(options.runs))
    if sweep is not None:
        return verify_sweep_command(sweep, options)
    _refuse_other_mode(options)
    # A folder is a run, as ever; a file can only be a capsule.
    return _verify_capsule(options) if os.path.isfile(options.run) else _verify_run(options)


def _verify_capsule(options: argparse.Namespace) -> int:
    """Verify the run in a capsule, with what else is in it; every byte is checked before."""
    from samebits.core.run_dir import prepare_runs
    from samebits.host.capsule.software import provide_software
    from samebits.host.capsule.unpack import unpacked_beside
    from samebits.host.runs.registry import runs_folder

    check = signature_check(options)
    options.runs = runs_folder(options.runs)
    prepare_runs(options.runs)
    with unpacked_beside(Path(options.run), options.runs, options.store) as capsule:
        options.run = str(capsule.run.path)
        options.data = options.data or capsule.data
        # Before the engine gets the image.
        if check is not None:
            check(capsule.run)
        options.offline = provide_software(capsule) or options.offline
        return _verify_whole_or_segments(options)


def _verify_run(options: argparse.Namespace) -> int:
    from samebits.host.runs.registry import find_run, runs_folder

    # Before anything of the run is executed.
    if (check := signature_check(options)) is not None:
        check(find_run(options.run, runs_folder(options.runs)))
    return _verify_whole_or_segments(options)


def _verify_whole_or_segments(options: argparse.Namespace) -> int:
    if not options.segments:
        return verify_command(
            run=options.run,
            against=options.against,
            runs=options.runs,
            level=options.level,
            data=options.data,
            tolerances=(options.rel, options.abs),
            offline=options.offline,
            trusted=tuple(options.trusted),
            locate=options.locate,
            as_json=options.json,
            html=options.html,
            expected=parse_expected(options.expect),
            limits=limits_of(options),
        )
    return verify_segments_command(
        run=options.run,
        runs=options.runs,
        level=options.level,
        data=options.data,
        offline=options.offline,
        trusted=tuple(options.trusted),
        jobs=1 if options.jobs is None else options.jobs,
        sample=options.sample,
        seed=options.sample_seed or 0,
        flags=_cluster_flags(options),
        as_json=options.json,
    )


def _cluster_flags(options: argparse.Namespace) -> tuple[str, ...] | None:
    """Flags for sbatch; None for a verification on this machine. Raises InputError."""
    check_on(options)
    if options.on is None:
        return None
    from samebits.host.cluster.submission import read_flags

    return read_flags(options.sbatch)


def _refuse_other_mode(options: argparse.Namespace) -> None:
    """Raise InputError for an option of the mode (whole or in segments) that was not chosen."""
    # Silently ignoring an option would verify less than the user asked for.
    whole = {"--against": options.against, "--locate": options.locate, "--rel": options.rel, "--abs": options.abs}
    whole |= {"--html": options.html, "--expect": options.expect}
    whole |= {"--max-hours": options.max_hours, "--max-disk": options.max_disk}
    segments = {"--jobs": options.jobs, "--sample": options.sample, "--sample-seed": options.sample_seed}
    segments |= {"--on": options.on, "--sbatch": options.sbatch}
    for name, value in (whole if options.segments else segments).items():
        # None, False and [] are the defaults; `--jobs 0` was given.
        if value is None or value is False or value == []:
            continue
        if options.segments:
            raise InputError(f"--segments and {name} exclude each other; remove one")
        raise InputError(f"{name} is for a verification in segments; add --segments")
    if options.sample_seed is not None and options.sample is None:
        raise InputError("--sample-seed is for a sample; add --sample K")


def verify_sweep_command(sweep: "SweepDir", options: argparse.Namespace) -> int:
    """Verify the runs of a sweep, or a sample of them; the verdict is the last line and the exit status."""
    from samebits.host.compare.verdict import Tolerance
    from samebits.host.rerun.request import RerunRequest
    from samebits.host.rerun.verify import VerifyOptions
    from samebits.host.subprocesses import Streams
    from samebits.host.sweep.verification import SweepVerifyOptions, verify_sweep

    for name in _OF_A_RUN:
        if getattr(options, name):
            raise InputError(
                f"--{name.replace('_', '-')} is for a single run, not for a sweep; remove it, or name a run"
            )
    if options.sample_seed is not None and options.sample is None:
        raise InputError("--sample-seed is for a sample; add --sample K")
    each = VerifyOptions(level=options.level, tolerance=Tolerance.parse(options.rel, options.abs))
    request = RerunRequest(
        runs=options.runs or sweep.runs,
        data=options.data,
        offline=options.offline,
        trusted=tuple(options.trusted),
        streams=Streams(out=sys.stderr.buffer),
    )
    how = SweepVerifyOptions(each=each, sample=options.sample, seed=options.sample_seed or 0)
    found = verify_sweep(sweep, request, how, report=(lambda _: None) if options.json else print_now)
    if options.json:
        print_json(found.to_dict())
    else:
        print_now(*found.verdict.reasons, *([f"verification {found.kept}"] if found.kept else []), found.line)
    return found.verdict.exit_status


def verify_command(  # noqa: PLR0913  the options of one verification
    *,
    run: str,
    against: str | None,
    runs: Path | None,
    level: str | None,
    data: Path | None,
    tolerances: tuple[list[str], list[str]],
    offline: bool,
    trusted: tuple[str, ...],
    locate: bool,
    as_json: bool,
    html: Path | None,
    expected: Digest | None,
    limits: "RunLimits",
) -> int:
    """Train a run again, or take `against`, and compare; the verdict is the last line and the exit status."""
    from samebits.host.compare.verdict import Tolerance
    from samebits.host.report.page import check_target
    from samebits.host.rerun.request import RerunRequest
    from samebits.host.rerun.verify import VerifyOptions, print_verification, verify, verify_against
    from samebits.host.runs.registry import find_run, runs_beside, runs_folder
    from samebits.host.subprocesses import INHERITED, Streams

    kept = runs_folder(runs)
    one = find_run(run, kept)
    # Before hours of training, not after them.
    check_target(html)
    options = VerifyOptions(level=level, tolerance=Tolerance.parse(*tolerances), locate=locate)
    request = RerunRequest(
        runs=runs or runs_beside(one, kept),
        data=data,
        offline=offline,
        trusted=trusted,
        # With --json, stdout holds the JSON only.
        streams=Streams(out=sys.stderr.buffer) if as_json else INHERITED,
        limits=limits,
    )
    if against is None:
        found = verify(one, request, options)
    else:
        found = verify_against(one, find_run(against, kept), request, options)
    if as_json:
        print_json(found.to_dict())
    else:
        print_verification(found)
    if html is not None:
        _write_page(html, found)
    if found.by is None:
        return found.verdict.exit_status
    return expected_status(found.by, expected, found.verdict.exit_status)


def _write_page(target: Path, found: "Verification") -> None:
    """The page of the two runs; without a second run there is nothing to compare: a message says so."""
    from samebits.host.console import log
    from samebits.host.report.comparison_page import comparison_page
    from samebits.host.report.page import write_page

    if found.by is None:
        log(f"no page was written to {target}: nothing was trained to compare with")
        return
    located = "" if found.location is None else "\n".join(found.location.lines())
    # Of runs whose files were changed, none were looked for.
    differences = found.differences or None
    page = comparison_page(found.verified, found.by, verdict=found.verdict, differences=differences, located=located)
    write_page(target, page)


def verify_segments_command(  # noqa: PLR0913  the options of one verification
    *,
    run: str,
    runs: Path | None,
    level: str | None,
    data: Path | None,
    offline: bool,
    trusted: tuple[str, ...],
    jobs: int,
    sample: int | None,
    seed: int,
    flags: tuple[str, ...] | None,
    as_json: bool,
) -> int:
    """Train a run's segments again and compare; the verdict is the last line and the exit status.

    With `flags`, segments are a job array of Slurm. Without, they are trained here, in parallel.
    """
    from samebits.host.cluster.array import on_slurm
    from samebits.host.launch.runtime import was_in_container
    from samebits.host.rerun.request import RerunRequest
    from samebits.host.rerun.segment_verdict import SegmentOptions, print_segment_verification
    from samebits.host.rerun.segments import scratch_beside, verify_in_processes, verify_segments
    from samebits.host.runs.registry import find_run, runs_beside, runs_folder

    kept = runs_folder(runs)
    one = find_run(run, kept)
    options = SegmentOptions(jobs=jobs, sample=sample, seed=seed)
    request = RerunRequest(runs=runs or runs_beside(one, kept), data=data, offline=offline, trusted=trusted)
    _require_bitwise(level or one.read().level)
    report = (lambda _: None) if as_json else print_now
    if flags is None:
        found = verify_in_processes(one, request, options, report=report)
    else:
        contained = was_in_container(one.read())
        with scratch_beside(request) as scratch, on_slurm(scratch, flags, in_container=contained) as executor:
            found = verify_segments(one, request, options, executor=executor, scratch=scratch, report=report)
    if as_json:
        print_json(found.to_dict())
    else:
        print_segment_verification(found)
    return found.verdict.exit_status


def _require_bitwise(level: str) -> None:
    """Raise InputError for another level: segments are compared bit by bit."""
    if check_level(level) != BITWISE:
        raise InputError(f"--segments needs the level {BITWISE}, not {level}; add --level {BITWISE}")
