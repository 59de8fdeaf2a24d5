"""The page of all runs in a folder, grouped by recipe: which recipes repeated, how often, and where."""

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from samebits.core.errors import pluralize
from samebits.core.record_summary import RecordSummary
from samebits.host.report.page import render
from samebits.host.runs.listed_run import ListedRun, metrics_text
from samebits.host.runs.registry import read_runs

ONCE, REPEATED, DIFFERS, NO_RESULT = "once", "repeated", "differs", "no result"


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexRow:
    """One run: its folder's name, summary, final metrics, CPU and runtime, and what it verifies or resumes."""

    name: str
    summary: RecordSummary
    metrics: str
    where: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeGroup:
    """The runs of one recipe. They have script, arguments and seed in common."""

    recipe: str
    rows: tuple[IndexRow, ...]

    @property
    def command(self) -> str:
        """Script, arguments and seed."""
        summary = self.rows[0].summary
        return f"{shlex.join((summary.script, *summary.arguments))}, seed {summary.seed}"

    @property
    def results(self) -> list[str]:
        """The result of each run that has one."""
        return [str(row.summary.result) for row in self.rows if row.summary.result is not None]

    @property
    def state(self) -> str:
        """Whether the recipe repeated."""
        if len(self.results) < 2:
            return ONCE if self.results else NO_RESULT
        return REPEATED if len(set(self.results)) == 1 else DIFFERS

    @property
    def verdict(self) -> str:
        """The same as a text, with numbers."""
        runs = pluralize(len(self.results), "run")
        texts = {ONCE: "one run", NO_RESULT: "no result", REPEATED: f"the same result in {runs}"}
        return texts.get(self.state, f"{len(set(self.results))} results in {runs}") + self._machines()

    def _machines(self) -> str:
        hosts = [row.summary.host for row in self.rows if row.summary.result is not None]
        machines = {host.machine for host in hosts if host is not None and host.machine is not None}
        return f", on {len(machines)} machines" if len(machines) > 1 else ""


def index_page(runs: Path) -> bytes:
    """The page of a folder of runs; raises InputError where it does not exist."""
    found: dict[str, list[IndexRow]] = {}
    for run in read_runs(runs):
        found.setdefault(str(run.summary.recipe), []).append(_row(run))
    groups = [RecipeGroup(recipe=recipe, rows=tuple(rows)) for recipe, rows in found.items()]
    return render("index.html.j2", groups=groups, overview=_overview(groups))


def _row(run: ListedRun) -> IndexRow:
    where = ", ".join(text for text in (run.summary.cpu, run.summary.runtime) if text)
    metrics = metrics_text(run.summary.metrics)
    return IndexRow(name=run.folder.path.name, summary=run.summary, metrics=metrics, where=where, note=run.note)


def _overview(groups: Iterable[RecipeGroup]) -> list[str]:
    """How many recipes are in which state; a state without one is left out."""
    states = Counter(group.state for group in groups)
    texts = {
        REPEATED: "gave the same result in every run",
        DIFFERS: "gave different results",
        ONCE: "ran once",
        NO_RESULT: "gave no result",
    }
    return [f"{pluralize(states[state], 'recipe')} {text}" for state, text in texts.items() if states[state]]
