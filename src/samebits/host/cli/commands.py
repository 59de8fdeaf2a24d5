"""The commands: each does one thing and returns an exit status. What is heavy is imported where it is used."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_DIFFERENT, EXIT_NOT_COMPARABLE, EXIT_OK, InputError
from samebits.core.record import summary
from samebits.core.run_config import RunConfig
from samebits.host.console import silence_stdout

if TYPE_CHECKING:
    from samebits.core.run_dir import RunDir
    from samebits.host.image.rebuild import Comparison
    from samebits.host.lint.linter import LintResult
    from samebits.host.probe.experiment import ProbeResult
    from samebits.host.probe.overhead import OverheadReport


def build_command(*, gpu: bool, check: bool, offline: bool, tag: str | None, base: str | None, as_json: bool) -> int:
    """Build the image where it is not there yet, or find out whether it builds to the same digest twice."""
    from samebits.host.docker import Engine
    from samebits.host.image.build import build, identify, plan_build
    from samebits.host.image.build_context import CPU, GPU
    from samebits.host.image.rebuild import build_twice

    engine = Engine()
    plan = plan_build(engine, GPU if gpu else CPU, tag=tag, base=base)
    if check:
        return _print_comparison(build_twice(engine, plan, offline=offline), as_json=as_json)
    image = build(engine, plan, offline=offline)
    _, identity = identify(engine, plan.tag)
    digests = {"config": identity.config, "base": identity.base, "lock": identity.lock, "source": identity.source}
    if as_json:
        _print_json({"tag": plan.tag, "id": image.id} | {name: str(digest) for name, digest in digests.items()})
    else:
        print(f"image {plan.tag} {identity.config}")
    return EXIT_OK


def check_command(*, spec: RunConfig, form: str, run: bool, cost: bool, steps: int | None, rounds: int | None) -> int:
    """Say what in a script breaks reproducibility, by its text and, if asked, by running it; 1 where something does."""
    from samebits.host.console import log
    from samebits.host.lint.linter import check

    checked = check(spec)
    for note in checked.notes:
        log(note)
    if form == "text":
        _print_at_once("\n".join(checked.lines()))  # the rest takes longer
    tried = costs = None
    if run:
        from samebits.host.probe import experiment as trials

        tried = trials.probe(spec, checked, steps or trials.PROBE_STEPS)
    if cost:
        from samebits.host.probe.overhead import TIMED_ROUNDS, TIMED_STEPS, measure_overhead

        if tried is not None and form == "text":
            _print_at_once("\n".join(tried.lines()))
        costs = measure_overhead(spec, steps=steps or TIMED_STEPS, rounds=rounds or TIMED_ROUNDS)
    _print_checked(form, spec.script.name, checked, tried, costs)
    return EXIT_DIFFERENT if checked.findings or not (tried is None or tried.passed) else EXIT_OK


def _print_checked(
    form: str, script: str, checked: "LintResult", tried: "ProbeResult | None", costs: "OverheadReport | None"
) -> None:
    """The end of a check; what a reading found has been printed for people already."""
    from samebits.host.lint.findings import PROBE_RULES, as_sarif
    from samebits.host.lint.linter import BY_CODE

    if form == "sarif":
        seen = () if tried is None else tried.findings(script)
        _print_json(as_sarif((*checked.findings, *seen), BY_CODE | PROBE_RULES))
    elif form == "json":
        runs = {"run": tried, "cost": costs}
        ran = {name: found.to_dict() for name, found in runs.items() if found is not None}
        _print_json(checked.to_dict() | ran)
    elif costs is not None:
        costs.print()
    elif tried is not None:
        print("\n".join(tried.lines()))


def rebuild_command(*, run: str, runs: Path | None, offline: bool) -> int:
    """Make a run's image again from what the run keeps, and compare digests."""
    from samebits.host.docker import Engine
    from samebits.host.image.rebuild import rebuild
    from samebits.host.runs.registry import find_run, runs_folder

    return _print_comparison(rebuild(Engine(), find_run(run, runs_folder(runs)), offline=offline))


def archive_base_command(*, base: str | None) -> int:
    """Keep the base image, against the day when its registry has lost it."""
    from samebits.host.docker import Engine
    from samebits.host.image.base_image import archive_base, default_base

    print(f"base {archive_base(Engine(), base or default_base())}")
    return EXIT_OK


def _print_comparison(comparison: "Comparison", *, as_json: bool = False) -> int:
    """Say identical, or name what differs; like diff, different is status 1."""
    if as_json:
        _print_json(comparison.to_dict())
    else:
        for line in comparison.differences:
            print(f"different {line}")
        print(f"{'identical' if comparison.identical else 'different'} {comparison.wanted} {comparison.found}")
    return EXIT_OK if comparison.identical else EXIT_DIFFERENT


def train_command(*, spec: RunConfig, as_json: bool) -> int:
    """Train, and end with the three lines."""
    from samebits.host.launch.train import train

    folder, status = train(spec)
    _print_trained(folder, as_json=as_json)
    return status


def resume_command(*, run: str, runs: Path | None, data: Path | None, offline: bool, as_json: bool) -> int:
    """Go on with a run that did not finish, and end with the three lines of the new one."""
    from samebits.host.rerun.resume import Request, resume
    from samebits.host.runs.registry import find_run, runs_beside, runs_folder

    kept = runs_folder(runs)
    one = find_run(run, kept)
    folder, status = resume(one, Request(runs=runs or runs_beside(one, kept), data=data, offline=offline))
    _print_trained(folder, as_json=as_json)
    return status


def _print_trained(folder: "RunDir", *, as_json: bool) -> None:
    """The last lines of a training."""
    from samebits.host.launch.train import describe_run

    lines = json.dumps(describe_run(folder), sort_keys=True) if as_json else summary(folder.path, folder.read())
    try:
        print(lines, flush=True)
    except BrokenPipeError:  # the reader went away, and the run counts all the same
        silence_stdout()


def verify_command(  # noqa: PLR0913  what a user may say of one verification
    *,
    run: str,
    against: str | None,
    runs: Path | None,
    goal: str | None,
    data: Path | None,
    tolerances: tuple[list[str], list[str]],
    offline: bool,
    locate: bool,
    as_json: bool,
) -> int:
    """Train a run again, or take another one, and give the verdict as the last line and as the exit status."""
    from samebits.host.compare.verdict import Tolerance
    from samebits.host.rerun.verify import Request, print_verification, verify, verify_against
    from samebits.host.runs.registry import find_run, runs_beside, runs_folder
    from samebits.host.subprocesses import OURS, Streams

    kept = runs_folder(runs)
    one = find_run(run, kept)
    request = Request(
        runs=runs or runs_beside(one, kept),
        goal=goal,
        tolerance=Tolerance.parse(*tolerances),
        data=data,
        offline=offline,
        locate=locate,
        streams=Streams(out=sys.stderr.buffer) if as_json else OURS,  # stdout is the JSON's
    )
    found = verify(one, request) if against is None else verify_against(one, find_run(against, kept), request)
    if as_json:
        _print_json(found.to_dict())
    else:
        print_verification(found)
    return found.verdict.exit_status


def verify_segments_command(  # noqa: PLR0913  what a user may say of one verification
    *,
    run: str,
    runs: Path | None,
    goal: str | None,
    data: Path | None,
    offline: bool,
    jobs: int,
    sample: int | None,
    seed: int,
    as_json: bool,
) -> int:
    """Execute a run's segments again, side by side, and give the verdict as the last line and as the exit status."""
    from samebits.core.run_config import BITWISE, check_level
    from samebits.host.rerun.segments import Request, print_segment_verification, verify_in_processes
    from samebits.host.runs.registry import find_run, runs_beside, runs_folder

    kept = runs_folder(runs)
    one = find_run(run, kept)
    request = Request(
        runs=runs or runs_beside(one, kept), data=data, offline=offline, jobs=jobs, sample=sample, seed=seed
    )
    asked = check_level(goal or one.read().level)
    if asked != BITWISE:
        raise InputError(
            f"--segments is for the goal {BITWISE}, and this is {asked}; add --goal {BITWISE}, or leave it out"
        )
    found = verify_in_processes(one, request, tell=(lambda _: None) if as_json else _print_at_once)
    if as_json:
        _print_json(found.to_dict())
    else:
        print_segment_verification(found)
    return found.verdict.exit_status


def _print_at_once(line: str) -> None:
    print(line, flush=True)


def preflight_command(*, run: str, runs: Path | None, goal: str | None, data: Path | None, as_json: bool) -> int:
    """Say what the recipe wants and what is here; status 3 where this host cannot tell at that goal."""
    from samebits.core.run_config import check_level
    from samebits.host.rerun.preflight import preflight, print_report
    from samebits.host.runs.registry import find_run, runs_folder

    runs = runs_folder(runs)
    folder = find_run(run, runs)
    goal = check_level(goal or folder.read().level)
    report = preflight(folder, data=data, runs=runs)
    if as_json:
        _print_json({"goal": goal, "rows": [row.to_dict() for row in report.rows], "reasons": report.reasons(goal)})
    else:
        print_report(report, goal)
    return EXIT_NOT_COMPARABLE if report.reasons(goal) else EXIT_OK


def diff_command(*, one: str, other: str, runs: Path | None, as_json: bool) -> int:
    """Say what differs between two runs; like diff, status 1 where something does."""
    from samebits.host.compare.run_diff import diff, print_differences
    from samebits.host.runs.registry import find_run, runs_folder

    differences = diff(*(find_run(name, runs_folder(runs)) for name in (one, other)))
    if as_json:
        _print_json([difference.to_dict() for difference in differences])
    else:
        print_differences(differences)
    return EXIT_DIFFERENT if differences else EXIT_OK


def fingerprint_command(*, profile: str, image: str | None, runtime: str, as_json: bool) -> int:
    """Compute about a hundred operations; status 1 where the portable profile promises other digests."""
    from samebits.host.launch.runtime import choose_runtime

    spec = RunConfig(script=Path(), profile=profile, image=image, runtime=runtime)
    chosen = choose_runtime(spec)
    chosen.prepare()
    words = ("fingerprint", "--profile", spec.profile, *(("--json",) if as_json else ()))
    status, text = chosen.ask(words, spec.determinism.variables)
    print(text, end="")
    return status


def attest_command(*, folder: Path, image: str | None, runtime: str) -> int:
    """Train what the table holds; status 1 where this machine reaches other digests."""
    from samebits.host.rerun.golden import attest

    different = attest(folder, runtime=runtime, image=image)
    for name in different:
        print(f"different {name}")
    print("different" if different else "identical")
    return EXIT_DIFFERENT if different else EXIT_OK


def list_command(*, runs: Path | None, as_json: bool) -> int:
    """List the runs of a folder."""
    from samebits.host.runs.registry import list_runs, read_runs, runs_folder, summarise

    runs = runs_folder(runs)
    if as_json:
        _print_json([summarise(folder, record) for folder, record in read_runs(runs)])
    else:
        list_runs(runs)
    return EXIT_OK


def show_command(*, run: str, runs: Path | None, as_json: bool) -> int:
    """Show one run; `--json` gives the whole record."""
    from samebits.host.runs.registry import find_run, run_as_json, runs_folder, show_run

    folder = find_run(run, runs_folder(runs))
    if as_json:
        _print_json(run_as_json(folder))
    else:
        show_run(folder)
    return EXIT_OK


def show_image_command(*, image: str, as_json: bool) -> int:
    """Show what an image is made of; `--json` gives its CycloneDX bill of materials."""
    from samebits.host.docker import Engine
    from samebits.host.image.build import describe, find
    from samebits.host.image.sbom import bill_of_materials, read_packages
    from samebits.host.runs.registry import show_image

    engine = Engine()
    found = find(engine, image)
    if as_json:
        print(bill_of_materials(engine, found))
    else:
        show_image(found, describe(engine, found), read_packages(engine, found))
    return EXIT_OK


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))
