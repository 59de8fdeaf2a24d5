"""From a configuration to a run's folder: hash code and data, make the recipe, publish the folder as `running`."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from samebits.core.checkpoint_copy import copy_checkpoints
from samebits.core.checkpoint_store import CheckpointStore, Position
from samebits.core.code_tree import check_script, converted_files, copy_tree, hash_code
from samebits.core.cpu_info import instruction_set
from samebits.core.determinism_profile import PORTABLE_INSTRUCTIONS
from samebits.core.environment import Environment
from samebits.core.errors import InputError, RecordError
from samebits.core.file_tree import Progress, Tree, hash_tree
from samebits.core.home_path import recorded_path
from samebits.core.inputs_lock import InputsLock, read_lock
from samebits.core.jsonio import storage_error
from samebits.core.liveness import Host
from samebits.core.origin import GitCommit, Origin, ResumedRun, VerifiedRun
from samebits.core.recipe import Device, ImageIdentity, Recipe
from samebits.core.record import RUNNING, Outcome, Record, write_record
from samebits.core.redaction import digests
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir, claim, prepare_runs
from samebits.core.run_files import open_plain


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSetup:
    """What the launcher knows about a run beyond its configuration."""

    image: ImageIdentity
    device: Device = field(default_factory=Device)
    environment: Environment = field(default_factory=Environment)
    python: tuple[int, int] = sys.version_info[:2]
    """The version of Python that will run the script. This process cannot check the syntax of a newer one."""
    verifies: VerifiedRun | None = None
    resumes: "Resumption | None" = None
    trusted_code: bool = False
    """Whether the user named the run whose code is executed again, as it would not run on this host otherwise."""
    git: GitCommit | None = None
    """The commit that the code is of."""
    attempts: tuple[str, ...] = ()
    """The earlier runs of the same job on a cluster."""
    record_version: str | None = None
    """The version that the runner writes, if it is a run's own of an older samebits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumption:
    """The run to resume, and the parts to copy from its folder.

    The new run starts with the first `size` bytes of `ledger` and with the checkpoints of `store` at `positions`.
    """

    run: ResumedRun
    ledger: Path
    size: int
    store: CheckpointStore
    positions: tuple[Position, ...] = ()
    workers: tuple["KeptWorker", ...] = ()

    def copy_into(self, folder: RunDir) -> None:
        """Copy ledgers and checkpoints into the new run's folder; raises RecordError if one of them got shorter."""
        _copy_ledger(self.ledger, self.size, folder.ledger)
        if self.positions:
            copy_checkpoints(self.store, self.positions, folder.checkpoints)
        for worker in self.workers:
            worker.copy_into(folder.checkpoints.of_worker(worker.index))


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptWorker:
    """What a worker beside the chief kept: `size` bytes of its ledger, and checkpoints at `positions`."""

    index: int
    store: CheckpointStore
    size: int
    positions: tuple[Position, ...]

    def copy_into(self, target: CheckpointStore) -> None:
        """Copy both; raises RecordError, StorageError."""
        try:
            target.folder.mkdir(parents=True)
        except OSError as error:
            raise storage_error(error, target.folder) from error
        _copy_ledger(self.store.ledger, self.size, target.ledger, within=self.store.run)
        if self.positions:
            copy_checkpoints(self.store, self.positions, target)


def _copy_ledger(ledger: Path, size: int, copy: Path, within: Path | None = None) -> None:
    """Copy the first bytes of a ledger."""
    try:
        with open_plain(ledger, within) as source, copy.open("wb") as target:
            left = size
            # Exactly the bytes that were checked, even if the file has grown since.
            while left and (part := source.read(min(left, 1 << 20))):
                target.write(part)
                left -= len(part)
    except OSError as error:
        raise storage_error(error, copy) from error
    if left:
        raise RecordError(f"{ledger} became shorter while it was copied; stop what else writes to it, and resume again")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """A run whose inputs are checked and hashed. It has no folder yet."""

    spec: RunConfig
    setup: RunSetup
    started: datetime
    code: Tree
    data: Tree | None
    recipe: Recipe
    inputs: InputsLock | None = None
    converted: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the run: UTC time, script, and the start of the recipe digest."""
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", self.spec.script.stem)[:60]
        return f"{self.started:%Y%m%dT%H%M%SZ}-{stem}-{self.recipe.digest.short}"


def plan_run(
    spec: RunConfig,
    setup: RunSetup,
    progress: Progress | None = None,
    *,
    hasher: Callable[[Path, Progress | None], Tree] | None = None,
) -> PlannedRun:
    """Check and hash all inputs first, so that a run does not fail later for a reason that is known now.

    `hasher` hashes the data instead of `hash_data`.

    Raises InputError for invalid inputs, and StorageError if the folder of runs is not writable.
    """
    check_script(spec.script, setup.python)
    check_runs(spec)
    if spec.determinism.portable:
        check_portable_cpu()
    converted = converted_files(spec)
    code = hash_code(spec, converted)
    data = None if spec.data is None else (hasher or hash_data)(spec.data, progress)
    return replace(plan_hashed(spec, setup, code=code, data=data), converted=converted)


def plan_hashed(spec: RunConfig, setup: RunSetup, *, code: Tree, data: Tree | None) -> PlannedRun:
    """Plan a run from hashed code and data; raises StorageError if the folder of runs is not writable."""
    inputs = read_inputs(spec)
    recipe = make_recipe(spec, setup, code, data, inputs)
    prepare_runs(spec.runs)
    started = datetime.now(UTC)
    return PlannedRun(spec=spec, setup=setup, started=started, code=code, data=data, recipe=recipe, inputs=inputs)


def publish(planned: PlannedRun) -> tuple[RunDir, Record]:
    """Create the run's folder with code, manifests and record. After a StorageError, no folder is left."""
    spec = planned.spec
    folder = claim(spec.runs, planned.name)
    record = Record(
        id=folder.path.name,
        level=spec.level,
        recipe=planned.recipe,
        started=planned.started.isoformat(timespec="microseconds"),
        outcome=Outcome(state=RUNNING),
        trace=spec.trace,
        retention=spec.retention,
        strict=spec.strict,
        trial=spec.trial,
        exclude=spec.exclude,
        origin=Origin(
            script=recorded_path(spec.script),
            data=None if spec.data is None else recorded_path(spec.data),
            verifies=planned.setup.verifies,
            resumes=None if planned.setup.resumes is None else planned.setup.resumes.run,
            trusted_code=planned.setup.trusted_code,
            git=planned.setup.git,
            attempts=planned.setup.attempts,
            data_cache=None if planned.data is None else planned.data.cached,
        ),
        environment=planned.setup.environment,
        host=Host.this(),
    )
    try:
        _fill(folder, planned, record)
    # A run must not be left half made, not even by Ctrl-C.
    except BaseException as error:
        shutil.rmtree(folder.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise storage_error(error, folder.path) from error
        raise
    return folder, record


def check_portable_cpu() -> None:
    """Raise InputError if this CPU lacks the instructions that the portable profile uses."""
    if instruction_set() not in {PORTABLE_INSTRUCTIONS, "x86-64-v4"}:
        raise InputError(
            f"the portable profile needs a CPU with {PORTABLE_INSTRUCTIONS}, but this one has {instruction_set()};"
            " use the native profile"
        )


def check_runs(spec: RunConfig) -> None:
    """Raise InputError if the folder of runs is the code folder or lies in the data folder."""
    # Resolved, because a link could hide that the folders are the same.
    runs, code = (Path(os.path.realpath(path)) for path in (spec.runs, spec.code_folder))
    if runs == code:
        raise InputError(f"runs cannot be kept in the code's own folder {spec.runs}; name another with --runs")
    if spec.data is not None and runs.is_relative_to(os.path.realpath(spec.data)):
        raise InputError(f"runs cannot be kept in the data folder {spec.data}; name another with --runs")


def hash_data(folder: Path, progress: Progress | None = None) -> Tree:
    """The tree of the data folder; raises InputError if it is empty."""
    tree = hash_tree(folder, "data", progress=progress)
    if not tree.entries:
        raise InputError(f"the data folder {folder} is empty; name a folder that holds the data")
    return tree


def make_recipe(spec: RunConfig, setup: RunSetup, code: Tree, data: Tree | None, inputs: InputsLock | None) -> Recipe:
    """The recipe: what was requested, and what the machine and the files are."""
    return Recipe(
        image=setup.image,
        code=replace(
            spec.code.describe(code.digest, spec.arguments, modes=code.modes),
            redacted=digests(spec.redacted, code.digest),
        ),
        data=None if data is None else data.digest,
        seed=spec.seed,
        profile=spec.profile,
        threads=spec.determinism.threads,
        instruction_set=PORTABLE_INSTRUCTIONS if spec.determinism.portable else instruction_set(),
        device=setup.device,
        world_size=spec.workers,
        ignore_outputs=spec.ignore_outputs,
        shuffle=spec.shuffle,
        env=spec.declared,
        inputs=None if inputs is None else inputs.digest,
    )


def read_inputs(spec: RunConfig) -> InputsLock | None:
    """The lock of the inputs, where there is one; raises InputError."""
    return None if spec.inputs is None else read_lock(spec.inputs)


def _fill(folder: RunDir, planned: PlannedRun, record: Record) -> None:
    """Write the folder's files. The record comes last, because it makes the folder a run."""
    copy_tree(planned.spec.code_folder, folder.code, planned.code, planned.converted)
    planned.code.write(folder.code_manifest)
    if planned.data is not None:
        planned.data.write(folder.data_manifest)
    if planned.inputs is not None:
        planned.inputs.write(folder.inputs)
    folder.create_inside()
    if planned.setup.resumes is not None:
        planned.setup.resumes.copy_into(folder)
    write_record(folder.record, record, planned.setup.record_version)
