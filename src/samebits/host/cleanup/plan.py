"""What takes space, what of it goes, and its removal."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from samebits.core.errors import SamebitsError, StorageError, pluralize
from samebits.host.cleanup.cache_items import cache_items, running_programs
from samebits.host.cleanup.engine_items import engine_items
from samebits.host.cleanup.item import Item, Selection, age_text, disk_size, size_text, total
from samebits.host.cleanup.run_needs import known_folders, read_needs
from samebits.host.cleanup.run_removal import RunSize, leftovers, remove_folder, run_sizes
from samebits.host.console import elapsed_progress, log, print_line, print_table

_MAX_RUNS = 10  # in the table; `--json` has all


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanupRequest:
    """What may go: unused for so many seconds; also what runs need; also the build cache that others share."""

    unused_for: float
    needed: bool = False
    build_cache: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanupPlan:
    """`free` goes, `kept` stays with a reason, `runs` is what each run takes.

    `folders` are those whose runs were asked what they need; `now` is the time of the plan.
    """

    free: list[Item]
    kept: list[tuple[Item, str]]
    runs: list[RunSize]
    folders: list[Path]
    now: float

    def to_dict(self) -> dict[str, Any]:
        """As `gc --json` prints it."""
        return {
            "asked": [str(folder) for folder in self.folders],
            "free": [item.to_dict() for item in self.free],
            "kept": [item.to_dict() | {"reason": why} for item, why in self.kept],
            "runs": [
                {"folder": str(item.run.path), "size": item.size, "checkpoints": item.checkpoints} for item in self.runs
            ],
        }


def plan_cleanup(runs: Path, request: CleanupRequest) -> CleanupPlan:
    """Look at cache, engine and runs; nothing is removed."""
    with elapsed_progress("measuring runs, caches and images"):
        folders, now = known_folders(runs), time.time()
        needs = read_needs(folders)
        items = [*cache_items(needs, running_programs()), *engine_items(needs, request.unused_for)]
        items += [_leftover(path) for path in leftovers(runs)]
        if request.build_cache:
            items = [replace(item, needed="") if item.kind == "build cache" else item for item in items]
        free, kept = Selection(unused_for=request.unused_for, needed=request.needed, now=now).split(items)
        return CleanupPlan(free=free, kept=kept, runs=run_sizes(runs), folders=folders, now=now)


def _leftover(path: Path) -> Item:
    return Item(
        kind="removed run",
        name=path.name,
        size=disk_size(path),
        used=0.0,
        again="its removal was interrupted",
        remove=partial(remove_folder, path),
    )


def print_plan(plan: CleanupPlan) -> None:
    """Print a row for each thing, and what can be freed as the last line."""
    rows = [_row(item, plan.now, "; ".join(filter(None, ("goes", item.needed, item.again)))) for item in plan.free]
    rows += [_row(item, plan.now, f"stays: {why}") for item, why in plan.kept]
    rows += [_run_row(item) for item in plan.runs[:_MAX_RUNS]]
    if rest := plan.runs[_MAX_RUNS:]:
        rows.append(["runs", f"{len(rest)} smaller ones", size_text(sum(item.size for item in rest)), "", ""])
    print_table(["what", "name", "size", "used", ""], rows)
    free = f"{size_text(total(plan.free))} in {pluralize(len(plan.free), 'item')} can be freed"
    print_line(f"only runs in these folders were asked what they need: {', '.join(map(str, plan.folders))}")
    stays = size_text(total([item for item, _ in plan.kept]))
    print_line(f"{free}; {stays} of caches and images stay; runs take {size_text(sum(r.size for r in plan.runs))}")


def _row(item: Item, now: float, decision: str) -> list[str]:
    used = "" if item.used == 0.0 else age_text(item.used, now)
    return [item.kind, item.name, size_text(item.size), used, decision]


def _run_row(item: RunSize) -> list[str]:
    of_checkpoints = f"; {size_text(item.checkpoints)} are checkpoints" if item.checkpoints else ""
    return ["run", item.run.path.name, size_text(item.size), "", f"stays: remove it by `samebits rm`{of_checkpoints}"]


def remove_items(items: Sequence[Item]) -> None:
    """Remove items one by one, and say how much is left; raises StorageError, at the end, if one could not be."""
    failed, left = 0, total(items)
    for number, item in enumerate(items, start=1):
        try:
            item.remove()
        except (SamebitsError, OSError) as error:
            failed += 1
            log(f"{item.kind} {item.name} stays: {error}")
            continue
        left -= item.size
        rest = f"{number} of {len(items)}, {size_text(left)} left"
        print_line(f"removed {item.kind} {item.name} ({size_text(item.size)}; {rest})", flush=True)
    if failed:
        raise StorageError(f"{pluralize(failed, 'item')} could not be removed; see the lines above")
