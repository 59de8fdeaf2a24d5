"""`samebits check`: find what in a script makes results differ between runs."""

import argparse
from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_DIFFERENT, EXIT_OK, InputError
from samebits.core.run_config import RunConfig, add_recipe_options, make_config
from samebits.core.trial import FEWEST_TIMED
from samebits.core.workers import check_one_worker
from samebits.host.cli.options import add_runtime
from samebits.host.cli.printing import print_now
from samebits.host.console import print_json

if TYPE_CHECKING:
    from samebits.host.lint.linter import LintResult
    from samebits.host.probe.experiment import ProbeResult
    from samebits.host.probe.overhead import OverheadReport
    from samebits.host.probe.resume_check import ResumeCheck

_FORMATS = ("text", "json", "sarif")


def add_check_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits check`."""
    parser.usage = "samebits check [options] SCRIPT [-- script's arguments]"
    parser.add_argument("--format", default="text", metavar="FORMAT", help="text (default), json or sarif")
    parser.add_argument(
        "--run",
        action="store_true",
        help="also make two short runs, one of them perturbed; if they differ, find the cause",
    )
    parser.add_argument(
        "--cost", action="store_true", help="also measure how much each determinism setting slows this training down"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="also make a short run, resume it from its first checkpoint, and compare the two",
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="steps of a short run, with --resume of each epoch (default: 5; 40 with --cost)",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="with --cost: how often to measure (default: 3)")
    add_recipe_options(parser)
    add_runtime(parser)
    parser.set_defaults(command=_check_from_options)


def _check_from_options(options: argparse.Namespace) -> int:
    _validate(options)
    return check_command(
        spec=make_config(vars(options)),
        form=options.format,
        run=options.run,
        cost=options.cost,
        resume=options.resume,
        steps=options.steps,
        rounds=options.rounds,
    )


def _validate(options: argparse.Namespace) -> None:
    """Raise InputError for values out of range, and for options that would have no effect."""
    if options.format not in _FORMATS:
        raise InputError(f"--format is text, json or sarif, not {options.format!r}")
    # Linting reads the script and runs nothing, so these would have no effect.
    if not (options.run or options.cost or options.resume):
        for name, value in (("--steps", options.steps), ("arguments after --", options.arguments)):
            if value is not None:
                raise InputError(
                    f"without --run, --resume or --cost, nothing is run; remove {name}, or add one of them"
                )
    if options.rounds is not None and not options.cost:
        raise InputError("--rounds is for --cost; add it")
    for name, number, least in (
        ("--steps", options.steps, FEWEST_TIMED if options.cost else 1),
        ("--rounds", options.rounds, 1),
    ):
        if number is not None and number < least:
            raise InputError(f"{name} must be {least} or more, not {number}")


def check_command(
    *, spec: RunConfig, form: str, run: bool, cost: bool, resume: bool, steps: int | None, rounds: int | None
) -> int:
    """Lint a script, and probe it if asked; status 1 if something makes results differ."""
    from samebits.host.console import log
    from samebits.host.lint.linter import check

    if run or cost or resume:
        check_one_worker(spec.workers)
    linted = check(spec)
    for note in linted.notes:
        log(note)
    # What is known is printed before the next, slower step.
    if form == "text":
        print_now(*linted.lines())
    probed = _probe(spec, linted, steps) if run else None
    if probed is not None and form == "text":
        print_now(*probed.lines())
    resumed = _resume(spec, steps) if resume else None
    if resumed is not None and form == "text":
        print_now(*resumed.lines())
    overhead = _measure(spec, steps, rounds) if cost else None
    _print_rest(form, spec.code.entry, linted, probed, resumed, overhead)
    passed = all(found is None or found.passed for found in (probed, resumed))
    return EXIT_OK if passed and not linted.counted else EXIT_DIFFERENT


def _probe(spec: RunConfig, linted: "LintResult", steps: int | None) -> "ProbeResult":
    from samebits.host.probe import experiment

    return experiment.probe(spec, linted, steps or experiment.PROBE_STEPS)


def _resume(spec: RunConfig, steps: int | None) -> "ResumeCheck":
    from samebits.host.probe import resume_check

    return resume_check.check_resume(spec, steps or resume_check.EPOCH_STEPS)


def _measure(spec: RunConfig, steps: int | None, rounds: int | None) -> "OverheadReport":
    from samebits.host.probe import overhead

    return overhead.measure_overhead(spec, steps=steps or overhead.TIMED_STEPS, rounds=rounds or overhead.TIMED_ROUNDS)


def _print_rest(
    form: str,
    script: str,
    linted: "LintResult",
    probed: "ProbeResult | None",
    resumed: "ResumeCheck | None",
    overhead: "OverheadReport | None",
) -> None:
    """Print what is not on stdout yet: everything as JSON or SARIF, the cost as text."""
    if form == "sarif":
        _print_sarif(script, linted, probed, resumed)
    elif form == "json":
        # A step that did not run has no key.
        steps = {"run": probed, "resume": resumed, "cost": overhead}
        print_json(linted.to_dict() | {name: found.to_dict() for name, found in steps.items() if found is not None})
    elif overhead is not None:
        overhead.print()


def _print_sarif(
    script: str, linted: "LintResult", probed: "ProbeResult | None", resumed: "ResumeCheck | None"
) -> None:
    from samebits.host.lint.findings import PROBE_RULES, as_sarif
    from samebits.host.lint.linter import BY_CODE

    observed = [item for found in (probed, resumed) if found is not None for item in found.findings(script)]
    print_json(as_sarif((*linted.findings, *observed), BY_CODE | PROBE_RULES))
