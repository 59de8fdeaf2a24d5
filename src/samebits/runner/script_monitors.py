"""What is watched while the script runs, and belongs to no recipe: unseeded randomness, unpinned files, connections."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from samebits.core.environment import Environment
from samebits.core.inputs_lock import LOCK_NAME, InputsLock, read_lock
from samebits.core.recipe import Recipe
from samebits.core.record import Outcome, Record
from samebits.core.run_dir import RunDir
from samebits.runner.compat.features import ENTROPY_MONITOR
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.self_test import PrivateNames
from samebits.runner.determinism.entropy_monitor import EntropyMonitor
from samebits.runner.determinism.unpinned import UnpinnedMonitor
from samebits.runner.download_recorder import is_fetch
from samebits.runner.software import CONTEXT


@dataclass(frozen=True, kw_only=True, slots=True)
class ScriptMonitors:
    """The monitors of one run; `entropy` is None where these library versions do not allow it."""

    entropy: EntropyMonitor | None
    unpinned: UnpinnedMonitor

    @classmethod
    def start(
        cls,
        names: PrivateNames,
        folder: RunDir,
        record: Record,
        patches: Patches,
        *,
        stop: Callable[[str], NoReturn],
        allowed: tuple[Path | None, ...],
    ) -> "ScriptMonitors":
        """Watch from here on; `stop` ends a strict run, `allowed` are the folders of its data and inputs."""
        strictly = stop if record.strict else None
        # In a container there is nothing else to read.
        files = record.environment.runtime == "venv"
        unpinned = UnpinnedMonitor(
            folder.work, (folder.path, CONTEXT, Path.home(), *allowed), files=files, stop=strictly
        )
        # A fetch is there to use the network.
        if not is_fetch():
            unpinned.install(patches)
        entropy = EntropyMonitor(folder.work, stop=strictly) if names.allow(ENTROPY_MONITOR) else None
        if entropy is not None:
            entropy.install(patches)
        return cls(entropy=entropy, unpinned=unpinned)

    def observed(self) -> Environment:
        """For the record."""
        uses = None if self.entropy is None else tuple(self.entropy.found())
        return replace(self.unpinned.observed(), entropy=uses)

    def explained(self, outcome: Outcome, recipe: Recipe, folder: RunDir, redacted: Mapping[str, str]) -> Outcome:
        """The outcome, with what to do where the script asked for the network."""
        lock = None if recipe.inputs is None else read_lock(folder.inputs)
        return self.unpinned.explained(outcome, lambda what: _advice(what, recipe.code.entry, lock), redacted)

    def check(self) -> None:
        """Raise SettingError where the run is strict, and the script or a process of it used what it must not."""
        if self.entropy is not None:
            self.entropy.check()
        self.unpinned.check()


def _advice(what: str, script: str, lock: InputsLock | None) -> str:
    """What to do about a URL or a host."""
    command = f"`samebits fetch {script}`"
    if lock is None:
        return f"run {command} once"
    if path := next((file.path for file in lock.files if file.url == what), None):
        return f"{LOCK_NAME} has it as {path}: download it only if that file is missing"
    # A fetch pins files only, and may have been made before.
    return f"{LOCK_NAME} does not name it: run {command}, and store it in a file, as keras.utils.get_file does"
