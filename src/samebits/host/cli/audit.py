"""`samebits audit`: check every file of a run's folder against the run's record."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_ERROR, EXIT_OK
from samebits.host.cli.options import RUN_HELP, add_json, add_runs_folder, completes_runs
from samebits.host.cli.sign import add_require_signed
from samebits.host.console import print_json


def add_audit_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits audit`."""
    completes_runs(parser.add_argument("run", nargs="+", metavar="RUN", help=RUN_HELP))
    add_require_signed(parser)
    add_runs_folder(parser)
    add_json(parser, "every change")
    parser.set_defaults(
        command=lambda options: audit_command(
            names=options.run, runs=options.runs, key=options.require_signed, as_json=options.json
        )
    )


def audit_command(*, names: list[str], runs: Path | None, key: Path | None, as_json: bool) -> int:
    """Name every file that is not as recorded; status 2 if there is one, as for a ledger that was edited."""
    from samebits.host.audit.folder_audit import audit_folder, print_audit
    from samebits.host.runs.registry import find_run, runs_folder

    if key is not None:
        from samebits.host.signing.signatures import require_signed

        for name in names:
            require_signed(find_run(name, runs_folder(runs)), key)
    audits = [audit_folder(find_run(name, runs_folder(runs))) for name in names]
    if as_json:
        print_json([audit.to_dict() for audit in audits])
    else:
        for audit in audits:
            print_audit(audit)
    return EXIT_OK if all(audit.intact for audit in audits) else EXIT_ERROR
