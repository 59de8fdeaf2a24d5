"""`samebits audit`: check every file of a run's folder against the run's record."""

import argparse
from collections.abc import Callable
from pathlib import Path

from samebits.core.errors import EXIT_ERROR, EXIT_OK
from samebits.core.run_dir import RunDir
from samebits.host.cli.options import RUN_HELP, add_json, add_runs_folder, completes_runs
from samebits.host.cli.sign import add_require_signed, signature_check
from samebits.host.console import print_json


def add_audit_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits audit`."""
    completes_runs(parser.add_argument("run", nargs="+", metavar="RUN", help=RUN_HELP))
    add_require_signed(parser)
    add_runs_folder(parser)
    add_json(parser, "every change")
    parser.set_defaults(
        command=lambda options: audit_command(
            names=options.run, runs=options.runs, check=signature_check(options), as_json=options.json
        )
    )


def audit_command(*, names: list[str], runs: Path | None, check: Callable[[RunDir], None] | None, as_json: bool) -> int:
    """Name every file that is not as recorded; status 2 if there is one, as for a ledger that was edited."""
    from samebits.host.audit.folder_audit import audit_folder, print_audit
    from samebits.host.runs.registry import find_run, runs_folder

    found = [find_run(name, runs_folder(runs)) for name in names]
    if check is not None:
        for run in found:
            check(run)
    audits = [audit_folder(run) for run in found]
    if as_json:
        print_json([audit.to_dict() for audit in audits])
    else:
        for audit in audits:
            print_audit(audit)
    return EXIT_OK if all(audit.intact for audit in audits) else EXIT_ERROR
