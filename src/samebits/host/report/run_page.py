"""The page of one run."""

import shlex

from samebits.core.errors import RecordError, shorten
from samebits.core.file_tree import read_manifest
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.audit.folder_audit import last_record
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.report.ledger_view import read_view
from samebits.host.report.page import render
from samebits.host.report.tables import Row, curves, environment_rows, git_rows, guaranteed, recipe_rows, reservations
from samebits.host.runs.registry import run_as_json
from samebits.host.signing.keyless import claimed_identities
from samebits.host.signing.signatures import signers

MAX_FILES = 500


def run_page(run: RunDir) -> bytes:
    """The page of a run; raises RecordError where its record cannot be read or was changed."""
    record = run.read()
    view, cells = read_view(run)
    ledger = check_ledger(run.ledger, last_record(run, record))
    return render(
        "run.html.j2",
        record=record,
        guaranteed=guaranteed(record),
        reservations=[*(f"Ledger: {problem}." for problem in ledger.problems), *reservations(record)],
        command=f"samebits verify {shlex.quote(record.id)}" + (" --data DIR" if record.recipe.data else ""),
        recipe=[*recipe_rows(record), *git_rows(record)],
        environment=environment_rows(record),
        fits=curves(view),
        cells=cells,
        lines=view.lines,
        checkpoints=[position.name for position in run.checkpoints_now.positions()],
        code=_code_rows(run),
        max_files=MAX_FILES,
        packages=_packages(record),
        signers=_signers(run),
        embedded=run_as_json(run),
    )


def _signers(run: RunDir) -> str:
    """Who claims to have signed the run; empty where nobody did, or where a statement cannot be read."""
    try:
        keys = shorten(signers(run), 3)
    except RecordError:
        keys = ""
    identities = shorten(sorted(map(str, claimed_identities(run))), 3)
    named = {"the keys": keys, "the identities": identities}
    return " and ".join(f"{kind} {names}" for kind, names in named.items() if names)


def _code_rows(run: RunDir) -> list[Row]:
    """Path and digest of each file of the code."""
    try:
        entries = read_manifest(run.code_manifest).entries
    except RecordError:
        return []
    return [(entry.path, str(entry.digest)) for entry in entries if entry.digest is not None]


def _packages(record: Record) -> list[Row]:
    system = record.environment.system
    return [] if system is None else sorted(system.distributions.items())
