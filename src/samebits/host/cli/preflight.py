"""`samebits preflight`: report whether this host can reproduce a run."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_NOT_COMPARABLE, EXIT_OK
from samebits.core.run_config import add_level_option, check_level
from samebits.host.cli.options import add_data, add_json, add_run, add_runs_folder, add_trust
from samebits.host.console import print_json


def add_preflight_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits preflight`."""
    add_run(parser)
    add_data(parser)
    add_level_option(parser, "bitwise, metrics or documented (default: the recorded level)")
    add_trust(parser)
    add_runs_folder(parser)
    add_json(parser, "the report")
    parser.set_defaults(
        command=lambda options: preflight_command(
            run=options.run,
            runs=options.runs,
            level=options.level,
            data=options.data,
            trusted=tuple(options.trusted),
            as_json=options.json,
        )
    )


def preflight_command(
    *, run: str, runs: Path | None, level: str | None, data: Path | None, trusted: tuple[str, ...], as_json: bool
) -> int:
    """Compare what the recipe needs with this host; status 3 if the host cannot reproduce the run at that level."""
    from samebits.host.rerun.preflight import preflight, print_report
    from samebits.host.rerun.software import SoftwareOptions
    from samebits.host.runs.registry import find_run, runs_folder

    runs = runs_folder(runs)
    folder = find_run(run, runs)
    level = check_level(level or folder.read().level)
    report = preflight(folder, data=data, runs=runs, software=SoftwareOptions(trusted=trusted))
    if as_json:
        print_json({"goal": level, "rows": [row.to_dict() for row in report.rows], "reasons": report.reasons(level)})
    else:
        print_report(report, level)
    return EXIT_NOT_COMPARABLE if report.reasons(level) else EXIT_OK
