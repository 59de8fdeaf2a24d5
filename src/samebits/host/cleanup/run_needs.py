"""What the kept runs need: locks, images, inputs, by the records in all folders of runs that this machine knows."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import RecordError, shorten
from samebits.core.jsonio import Fields, read_json, reading
from samebits.core.run_dir import MARKER
from samebits.core.run_files import read_plain
from samebits.host.cache_dir import cache_folder
from samebits.host.console import log
from samebits.host.launch.venv import locks_name
from samebits.host.run_folders import noted_folders
from samebits.host.runs.registry import run_dirs

_MAX_NAMED = 2
_MAX_NOTE = 1 << 16  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RunNeeds:
    """By what is needed (an environment's name, a lock's digest, an image's id …), the ids of the runs that need it."""

    environments: dict[str, list[str]] = field(default_factory=dict)
    locks: dict[str, list[str]] = field(default_factory=dict)
    images: dict[str, list[str]] = field(default_factory=dict)
    inputs: dict[str, list[str]] = field(default_factory=dict)

    def note(self, run: str, fields: Fields) -> None:
        """Take what a record names."""
        recipe, environment = fields.inner("recipe"), fields.inner("environment")
        image = recipe.inner("image")
        locks = [Digest.parse(text) for name in ("lock", "packages") if (text := image.optional(name, str))]
        if environment.optional("runtime", str) == "venv":
            self.environments.setdefault(locks_name(locks), []).append(run)
        else:
            for lock in locks:
                self.locks.setdefault(lock.hex[:16], []).append(run)
        started = environment.optional_inner("image")
        for name in {image.optional("config", str), None if started is None else started.optional("id", str)} - {None}:
            self.images.setdefault(str(name), []).append(run)
        if inputs := recipe.optional("inputs", str):
            self.inputs.setdefault(Digest.parse(inputs).hex, []).append(run)


def read_needs(folders: Iterable[Path]) -> RunNeeds:
    """What the runs of these folders need; a record that cannot be read is reported."""
    needs = RunNeeds()
    for folder in folders:
        for run in run_dirs(folder):
            try:
                with reading(run.record):
                    needs.note(run.path.name, Fields(read_json(run.record)))
            except RecordError as error:
                log(f"{error}; what this run needs is not known")
    return needs


def known_folders(runs: Path) -> list[Path]:
    """The folder of runs, and all others in which this machine has trained."""
    noted = (folder for folder in sorted(noted_folders() | _noted()) if os.path.exists(folder / MARKER))
    found = {os.path.realpath(folder): folder for folder in (*noted, runs.absolute())}
    return sorted(found.values(), key=lambda folder: folder != runs.absolute())


def _noted() -> set[Path]:
    """By the notes on whose code ran here, which are older than those on folders."""
    return {path.parent for path in _noted_runs(cache_folder("trained"))}


def _noted_runs(notes: Path) -> Iterator[Path]:
    for note in notes.glob("*.json"):
        try:
            yield Path(Fields(json.loads(read_plain(note, _MAX_NOTE))).get("run", str))
        except (OSError, ValueError, RecordError):
            continue


def needed_by(runs: list[str] | None) -> str:
    """Why something stays: the runs that need it."""
    return "" if not runs else f"needed by {shorten(sorted(runs), _MAX_NAMED)}"
