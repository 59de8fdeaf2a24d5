"""The page of all runs in a folder, grouped by recipe: which recipes repeated, and how often."""

from dataclasses import dataclass
from pathlib import Path

from samebits.core.record_summary import RecordSummary
from samebits.core.run_dir import RunDir
from samebits.host.report.page import render
from samebits.host.runs.registry import read_runs
from samebits.host.runs.run_list import note


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeGroup:
    """The runs of one recipe; `results` is how many different results they have."""

    recipe: str
    runs: tuple[tuple[RunDir, RecordSummary, str], ...]
    results: int

    @property
    def verdict(self) -> str:
        """Whether the recipe repeated."""
        with_result = sum(summary.result is not None for _, summary, _ in self.runs)
        if with_result < 2:
            return "run once" if with_result else "no result"
        return f"repeated {with_result} times" if self.results == 1 else f"{self.results} results in {with_result} runs"


def index_page(runs: Path) -> bytes:
    """The page of a folder of runs; raises InputError where it does not exist."""
    groups: dict[str, list[tuple[RunDir, RecordSummary, str]]] = {}
    for folder, summary in read_runs(runs):
        groups.setdefault(str(summary.recipe), []).append((folder, summary, note(folder, summary)))
    return render("index.html.j2", groups=[_group(recipe, found) for recipe, found in groups.items()])


def _group(recipe: str, runs: list[tuple[RunDir, RecordSummary, str]]) -> RecipeGroup:
    results = {str(summary.result) for _, summary, _ in runs if summary.result is not None}
    return RecipeGroup(recipe=recipe, runs=tuple(runs), results=len(results))
