"""The page of a sweep: the table of its metrics, what a reader must know of it, and its runs."""

from samebits.host.report.page import render
from samebits.host.report.tables import Row
from samebits.host.sweep.statistics import CONFIDENCE, METHOD
from samebits.host.sweep.sweep_file import COLUMNS, Sweep, SweepDir, SweepRun, require_finalized, rows_of


def sweep_page(folder: SweepDir) -> bytes:
    """The page of a sweep; raises InputError for one without a summary."""
    sweep = require_finalized(folder)
    return render(
        "sweep.html.j2",
        sweep=sweep,
        columns=COLUMNS,
        metrics=rows_of(sweep),
        method=f"{CONFIDENCE:.0%} confidence interval of the mean: {METHOD}",
        facts=_facts(sweep),
        runs=[_run_row(run) for run in sweep.runs],
        embedded=sweep.to_dict(),
    )


def _facts(sweep: Sweep) -> list[Row]:
    finished = len(sweep.runs) - len(sweep.failed)
    return [
        ("script", " ".join((sweep.script, *sweep.arguments))),
        ("runs", f"{finished} of {len(sweep.runs)} finished"),
        ("digest of all runs", str(sweep.digest)),
        ("verify it", f"samebits verify {sweep.id}"),
    ]


def _run_row(run: SweepRun) -> list[str]:
    note = run.message or ""
    if run.attempts[1:]:
        note = f"{note} attempt {len(run.attempts)}".strip()
    return [str(run.member), run.id, run.outcome, run.recipe.short, run.result.short if run.result else "", note]
